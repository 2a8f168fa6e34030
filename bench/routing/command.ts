import type { Command } from "commander";
import { summarize } from "#streamserve/report/statistics.js";
import { choice, wholeNumber, wholeNumbers, withJson } from "../options.js";
import { beginReport, publish, type Table } from "../report.js";
import { timeDecisions } from "./decision.js";
import { ROUTING_SCENARIOS, type RoutingScenario } from "./scenarios.js";
import { type RouterConfig, simulateRouting } from "./simulate.js";

interface RoutingOptions {
  readonly pairs: readonly number[];
  readonly requests: number;
  readonly seeds: readonly number[];
  readonly scenario?: string;
  readonly decisions: number;
  readonly json?: string;
}

/** FlowGuard, and what is usual elsewhere. */
const ROUTERS: readonly { readonly name: string; readonly router: RouterConfig }[] = [
  { name: "FlowGuard", router: {} },
  { name: "no lending", router: { lendPressure: 1e6, lendSteps: 1e6 } },
  { name: "static roles", router: { roles: "static" } },
  { name: "round robin", router: { policy: "round-robin" } },
  { name: "random", router: { policy: "random" } },
  { name: "least loaded", router: { policy: "least-loaded" } },
  { name: "prefix only", router: { policy: "prefix" } },
];

/** Requests of a run grow with the pairs, so that a scenario lasts as long. */
const PAIRS_OF_COUNT = 2;

interface Quantiles {
  readonly firstTokenMs: { readonly p50: number; readonly p99: number };
  readonly tokenMs: { readonly p50: number; readonly p99: number };
  readonly cachedShare: number;
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
      "requests of a scenario with two pairs; more pairs, as many more",
      wholeNumber(50, 1_000_000),
      3000,
    )
    .option("--seeds <n,n,...>", "seeds; figures are means over them", wholeNumbers(0, 0xffffffff), [3])
    .addOption(
      choice(
        "--scenario <name>",
        "this one alone",
        ROUTING_SCENARIOS.map(({ name }) => name),
      ),
    )
    .option("--decisions <n>", "decisions timed among 1,000 lanes", wholeNumber(100, 10_000_000), 20_000);
  withJson(command).action(runRouting);
}

function runRouting(options: RoutingOptions): void {
  const finish = beginReport("routing");
  const scenarios = ROUTING_SCENARIOS.filter(({ name }) => !options.scenario || name === options.scenario);
  const tables: Table[] = [];
  const results: Record<string, unknown> = {};
  for (const pairs of options.pairs) {
    for (const scenario of scenarios) {
      const count = Math.round((options.requests * pairs) / PAIRS_OF_COUNT);
      const measured = ROUTERS.map(({ name, router }) => ({
        name,
        ...meanOver(options.seeds, scenario, pairs, count, router),
      }));
      results[`${scenario.name}, ${pairs} pairs`] = measured;
      tables.push(tableOf(scenario, pairs, count, measured));
    }
  }
  const { table, times } = decisions(options.decisions);
  publish(
    finish({
      settings: { ...options, json: undefined },
      tables: [...tables, table],
      notes: [
        "Virtual time: real actors over simulated A800 pairs with a 7B model, each with a KV pool of its own; costs are worked out from the data sheet. Ratios between rows are what it shows.",
        "The last two columns: the figure over FlowGuard's. Speculation and admission are off.",
      ],
      results: { ...results, decisionUs: times },
      figures: [],
    }),
    options.json,
  );
}

function meanOver(
  seeds: readonly number[],
  scenario: RoutingScenario,
  pairs: number,
  count: number,
  router: RouterConfig,
): Quantiles {
  const runs = seeds.map((seed) => {
    const run = simulateRouting(scenario, scenario.requests(pairs, count, seed), pairs, router);
    const { cachedShare } = run;
    return { first: summarize(run.firstTokenMs), each: summarize(run.tokenMs), cachedShare };
  });
  const mean = (of: (run: (typeof runs)[number]) => number) =>
    runs.reduce((sum, run) => sum + of(run), 0) / runs.length;
  return {
    firstTokenMs: { p50: mean((run) => run.first.p50), p99: mean((run) => run.first.p99) },
    tokenMs: { p50: mean((run) => run.each.p50), p99: mean((run) => run.each.p99) },
    cachedShare: mean((run) => run.cachedShare),
  };
}

function tableOf(
  scenario: RoutingScenario,
  pairs: number,
  count: number,
  measured: readonly (Quantiles & { readonly name: string })[],
): Table {
  const ours = measured[0]!;
  return {
    title: `${scenario.name} (${scenario.about}), ${pairs} pairs, ${count} requests: milliseconds`,
    columns: ["", "TTFT p50", "p99", "TPOT p50", "p99", "cached", "TTFT p99 x", "TPOT p99 x"],
    rows: measured.map(({ name, firstTokenMs, tokenMs, cachedShare }) => [
      name,
      firstTokenMs.p50,
      firstTokenMs.p99,
      tokenMs.p50,
      tokenMs.p99,
      cachedShare,
      firstTokenMs.p99 / ours.firstTokenMs.p99,
      tokenMs.p99 / ours.tokenMs.p99,
    ]),
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
