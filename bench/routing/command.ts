import { availableParallelism } from "node:os";
import { type Command, InvalidArgumentError } from "commander";
import { Piscina } from "piscina";
import { median, type PairedRatio, summarize } from "#streamserve/report/statistics.js";
import { choice, wholeNumber, wholeNumbers, withJson } from "../options.js";
import { beginReport, publish, type Table } from "../report.js";
import { timeDecisions } from "./decision.js";
import { judge, type Measured, TAILS, type Verdict } from "./goal.js";
import { ROUTERS } from "./routers.js";
import type { RoutingFigures, RoutingJob } from "./routing-job.js";
import { ROUTING_SCENARIOS, type RoutingScenario } from "./scenarios.js";

interface RoutingOptions {
  readonly pairs: readonly number[];
  readonly requests: number;
  readonly seeds: readonly number[];
  readonly scenario?: string;
  readonly threads: number;
  readonly decisions: number;
  readonly json?: string;
}

const MOST_SEEDS = 1000;

/** What one scenario showed with so many pairs. */
interface Compared {
  readonly scenario: RoutingScenario;
  readonly pairs: number;
  readonly count: number;
  readonly measured: readonly Measured[];
  readonly verdicts: readonly Verdict[];
}

export function addRoutingCommand(program: Command): void {
  const command = program
    .command("routing")
    .description(
      "simulate routers over pairs of A800s: FlowGuard and its usual substitutes; and time a decision",
    )
    .option("--pairs <n,n,...>", "stream pairs", wholeNumbers(1, 64), [2, 64])
    .option(
      "--requests <n>",
      "requests of a run; more where many pairs need more to show what a scenario is",
      wholeNumber(50, 1_000_000),
      3000,
    )
    .option(
      "--seeds <a..b>",
      "seeds; figures are medians over them, ratios are taken seed by seed",
      seedRange,
      seedRange("11..13"),
    )
    .addOption(
      choice(
        "--scenario <name>",
        "this one alone",
        ROUTING_SCENARIOS.map(({ name }) => name),
      ),
    )
    .option("--threads <n>", "runs at a time", wholeNumber(1, 1024), availableParallelism())
    .option("--decisions <n>", "decisions timed among 1,000 lanes", wholeNumber(100, 10_000_000), 20_000);
  withJson(command).action(runRouting);
}

/** "11..16", "3", or "1,5,8". */
function seedRange(text: string): number[] {
  const [from, to, ...more] = text.split("..").map(Number);
  if (to === undefined) return wholeNumbers(0, 0xffffffff)(text);
  const whole = [from, to].every((seed) => Number.isSafeInteger(seed) && seed! >= 0 && seed! <= 0xffffffff);
  const count = to - from! + 1;
  if (more.length > 0 || !whole || count < 1 || count > MOST_SEEDS) {
    throw new InvalidArgumentError(`Give a range like 11..16, of ${MOST_SEEDS} seeds at most.`);
  }
  return Array.from({ length: count }, (_, i) => from! + i);
}

async function runRouting(options: RoutingOptions): Promise<void> {
  const finish = beginReport("routing");
  const scenarios = ROUTING_SCENARIOS.filter(({ name }) => !options.scenario || name === options.scenario);
  const compared: Compared[] = [];
  const filename = new URL("./routing-job.js", import.meta.url).href;
  const { threads } = options;
  const pool = new Piscina<RoutingJob, RoutingFigures>({
    filename,
    minThreads: threads,
    maxThreads: threads,
  });
  try {
    for (const pairs of options.pairs) {
      for (const scenario of scenarios) {
        const one = await compare(pool, scenario, pairs, options);
        compared.push(one);
        console.error(`${scenario.name}, ${pairs} pairs: ${holding(one) ? "holds" : "missed"}`);
      }
    }
  } finally {
    await pool.destroy();
  }
  const { table, times } = decisions(options.decisions);
  publish(
    finish({
      settings: { ...options, json: undefined },
      tables: [...compared.map(tableOf), goalTable(compared, options.seeds.length), table],
      notes: [
        "Virtual time: real actors over simulated A800 pairs with a 7B model, each with a KV pool of its own; costs are worked out from the data sheet. Ratios between rows are what it shows.",
        "Figures are medians over seeds. The last two columns: FlowGuard's figure over the router's, the median of the seeds' ratios. Speculation and admission are off.",
      ],
      results: {
        compared: compared.map(({ scenario, ...one }) => ({ scenario: scenario.name, ...one })),
        decisionUs: times,
      },
      figures: [],
    }),
    options.json,
  );
}

async function compare(
  pool: Piscina<RoutingJob, RoutingFigures>,
  scenario: RoutingScenario,
  pairs: number,
  { requests, seeds }: RoutingOptions,
): Promise<Compared> {
  const count = Math.max(requests, scenario.enough * pairs);
  const measured = await Promise.all(
    ROUTERS.map(async ({ name, router }): Promise<Measured> => {
      const jobs = seeds.map((seed) => pool.run({ scenario: scenario.name, pairs, count, seed, router }));
      return { name, runs: await Promise.all(jobs) };
    }),
  );
  const [ours, ...others] = measured as [Measured, ...Measured[]];
  return { scenario, pairs, count, measured, verdicts: judge(ours, others, scenario.skewed) };
}

function holding({ verdicts }: Compared): boolean {
  return verdicts.every(({ holds }) => holds);
}

function tableOf({ scenario, pairs, count, measured }: Compared): Table {
  const ours = measured[0]!;
  return {
    title: `${scenario.name} (${scenario.about}), ${pairs} pairs, ${count} requests: milliseconds`,
    columns: ["", "TTFT p50", "p99", "TPOT p50", "p99", "cached", "TTFT p99 x", "TPOT p99 x"],
    rows: measured.map(({ name, runs }) => {
      const over = (of: (run: RoutingFigures) => number) => median(runs.map(of));
      return [
        name,
        over((run) => run.firstTokenMs.p50),
        over((run) => run.firstTokenMs.p99),
        over((run) => run.tokenMs.p50),
        over((run) => run.tokenMs.p99),
        over((run) => run.cachedShare),
        ...TAILS.map(([, of]) => median(ours.runs.map((run, i) => of(run) / of(runs[i]!)))),
      ];
    }),
  };
}

function goalTable(compared: readonly Compared[], seeds: number): Table {
  const spread = ({ median: middle, min, max }: PairedRatio) =>
    `${middle.toFixed(3)} (${min.toFixed(2)}-${max.toFixed(2)})`;
  return {
    title: `FlowGuard's p99 over that of the substitute it does worst beside, and round robin's over FlowGuard's: median of ${seeds} seeds (least-most)`,
    columns: ["", "pairs", "", "beside", "over it", "round robin's over ours", "goal"],
    rows: compared.flatMap(({ scenario, pairs, verdicts }) =>
      verdicts.map(({ tail, best, overBest, ahead, holds }) => [
        scenario.name + (scenario.skewed ? ", skewed" : ""),
        pairs,
        tail,
        best,
        spread(overBest),
        spread(ahead),
        holds ? "holds" : "missed",
      ]),
    ),
  };
}

function decisions(count: number): { table: Table; times: Record<string, unknown> } {
  const { chooseUs, prefixUs } = timeDecisions(1000, 1000, count);
  // The first thousand compile.
  const warm = Math.min(1000, count >> 1);
  const choose = summarize(chooseUs.slice(warm));
  const prefix = summarize(prefixUs.slice(warm));
  const both = summarize(chooseUs.map((us, i) => us + prefixUs[i]!).slice(warm));
  return {
    times: { choose, prefix, both },
    table: {
      title:
        "A decision among 1,000 lanes (500 pairs), a prompt of 1,000 tokens that 16 pools know: microseconds",
      columns: ["", "p50", "p90", "p99"],
      rows: [
        ["choosing the pair", choose.p50, choose.p90, choose.p99],
        ["naming and finding the prefix", prefix.p50, prefix.p90, prefix.p99],
        ["both", both.p50, both.p90, both.p99],
      ],
    },
  };
}
