import type { Command } from "commander";
import { parse } from "yaml";
import { configSchema } from "#streamserve/config/schema.js";
import { closeEngine, openEngine } from "#streamserve/engine/native-engine.js";
import { openCore } from "#streamserve/gateway/open-core.js";
import { RECORDED_SETS } from "#streamserve/model/recording.js";
import { resolveModel } from "#streamserve/model/resolve.js";
import { ascending, percentile } from "#streamserve/report/statistics.js";
import { checkHardware, type HardwareProfile } from "#streamserve/simulate/serving/hardware.js";
import { loadHardware } from "#streamserve/simulate/serving/load-hardware.js";
import type { RequestOutcome, ServingRequest, Workload } from "#streamserve/simulate/serving/serving.js";
import { simulateServing } from "#streamserve/simulate/serving/simulate-serving.js";
import { openWorkload } from "#streamserve/simulate/serving/workload.js";
import { Company } from "../company.js";
import { positiveNumber, wholeNumber, wholeNumbers, withJson } from "../options.js";
import { measureProfile } from "../recording/lanes.js";
import { beginReport, publish, type Table } from "../report.js";
import { MachineSpeed, slowed } from "./machine-speed.js";
import { type Served, serveWorkload } from "./serve-workload.js";

interface PlannerOptions {
  readonly model: string;
  readonly hardware?: string;
  readonly rates: readonly number[];
  readonly seconds: number;
  readonly maxTokens: number;
  readonly seed: number;
  readonly json?: string;
}

/**
 * Before anything is measured: code is compiled, lanes know their steps and what drafts earn on such text. Other arrivals
 * and texts than those that are compared, of a tenant of its own.
 */
const WARM_UP = { count: 24, perSecond: 4, maxTokens: 64, seed: 2 ** 32, tenant: "warm-up" };

/** KV of the engine that tells the machine's speed. */
const SPEED_KV_TOKENS = 4096;

/** The figures compared: of each request a time, over all of them a percentile. */
const TIMES = [
  ["TTFT", "ttftMs"],
  ["TPOT", "tpotMs"],
  ["latency", "totalMs"],
] as const;
const PERCENTILES = [50, 99] as const;

export function addPlannerCommand(program: Command): void {
  const command = program
    .command("planner")
    .description("the planner's prediction for this machine, beside what the real engine then does")
    .option("--model <name>", "catalogue name or path", "smollm2-135m-instruct")
    .option(
      "--hardware <profile>",
      "a profile of config/hardware, or the path of one; default: measured first, on this machine as it is now",
    )
    .option("--rates <list>", "requests a second, one run each", wholeNumbers(1, 1000), [2, 5])
    .option("--seconds <n>", "how long requests come at each rate", positiveNumber(3600), 20)
    .option("--max-tokens <n>", "output tokens of a request, at most", wholeNumber(2, 512), 128)
    .option("--seed <n>", "seed of arrivals and texts", wholeNumber(0, 2 ** 32 - 1), 1);
  withJson(command).action(runPlanner);
}

/** One rate: the same requests simulated and served. */
interface Compared {
  readonly rate: number;
  readonly predicted: readonly RequestOutcome[];
  readonly measured: readonly RequestOutcome[];
  /** How many times as long as the profile says steps took, just before and after: predicted is for such a machine. */
  readonly slower: number;
  /** Of the processors' time while it was measured, what other programs had. */
  readonly othersShare: number;
}

async function runPlanner(options: PlannerOptions): Promise<void> {
  const finish = beginReport("planner");
  const { model, rates } = options;
  const hardware = await profileOf(options);
  // Rates bring the same texts: a tenant each, so that none finds another's prompts or drafts.
  const settings = { engine: { isolateTenants: true, contextTokens: hardware.contextTokens } };
  const path = await resolveModel(model);
  const config = configSchema.parse({ model: path, ...settings });
  const core = await openCore(config);
  const engine = openEngine({ path, kvTokens: SPEED_KV_TOKENS, threads: config.engine.threads });
  const speed = new MachineSpeed(engine, hardware);
  const compared: Compared[] = [];
  try {
    const stopIds = core.codec.stopIds;
    await serveWorkload(core.service, recordedWorkload(WARM_UP), []);
    for (const rate of rates) {
      const workload = workloadOf(options, rate);
      const before = speed.slower();
      const company = new Company();
      const end = company.begin();
      const served = await serveWorkload(core.service, workload, stopIds);
      end();
      const slower = (before + speed.slower()) / 2;
      const objectives = { ttftMs: 0, tpotMs: 0 };
      const setup = {
        hardware: slowed(hardware, slower),
        pairs: 1,
        settings,
        objectives,
        seed: options.seed,
      };
      const { requests } = simulateServing(setup, answered(workload, served));
      const measured = served.map(({ outcome }) => outcome);
      compared.push({ rate, measured, predicted: requests, slower, othersShare: company.share });
      console.error(`${rate} requests/s: ${measured.length} served and simulated`);
    }
  } finally {
    closeEngine(engine.id);
    await core.close();
  }
  publish(
    finish({
      settings: { ...options, json: undefined, hardware: hardware.name },
      tables: compared.map(tableOf),
      notes: [
        `Predicted: the same actors on simulated lanes (${hardware.about}). Measured: through the actors, without HTTP.`,
        ...compared.map(
          ({ rate, slower, othersShare }) =>
            `${rate} requests/s: steps took ${slower.toFixed(2)} times what the profile says just before and after, which the prediction knows; other programs had ${(100 * othersShare).toFixed(1)}% of the processors' time meanwhile.`,
        ),
        ...compared.flatMap(differences),
      ],
      results: {
        hardware,
        compared: compared.map((one) => ({
          rate: one.rate,
          slower: one.slower,
          othersShare: one.othersShare,
          errors: errorsOf(one),
        })),
      },
      figures: [],
    }),
    options.json,
  );
}

async function profileOf({ hardware, model }: PlannerOptions): Promise<HardwareProfile> {
  if (hardware !== undefined) return loadHardware(hardware);
  return checkHardware(parse(await measureProfile(model, 0)), "the profile measured just now");
}

function workloadOf({ seconds, maxTokens, seed }: PlannerOptions, rate: number): Workload {
  const count = Math.max(2, Math.ceil(rate * seconds));
  return recordedWorkload({ count, perSecond: rate, maxTokens, seed, tenant: `rate ${rate}` });
}

interface RecordedLoad {
  readonly count: number;
  readonly perSecond: number;
  readonly maxTokens: number;
  readonly seed: number;
  readonly tenant: string;
}

/** Requests of all four sets alike, from one tenant, at Poisson arrivals. */
function recordedWorkload({ count, perSecond, maxTokens, seed, tenant }: RecordedLoad): Workload {
  const sets = RECORDED_SETS.map((recorded) => ({ recorded, maxTokens, weight: 1 }));
  const { requests } = openWorkload({ arrivals: { kind: "poisson" }, perSecond, count, sets, seed });
  return { requests: requests.map((request): ServingRequest => ({ ...request, tenant })) };
}

/** The same requests with the answers that were given: an engine that rounds otherwise than the recorded one says other things. */
function answered(workload: Workload, served: readonly Served[]): Workload {
  return {
    requests: workload.requests.map((request, i): ServingRequest => {
      const { outcome, answer } = served[i]!;
      if (outcome.outcome !== "done") return request;
      const { prompt } = request.text();
      return { ...request, outputTokens: outcome.outputTokens, text: () => ({ prompt, answer }) };
    }),
  };
}

function errorsOf({ predicted, measured }: Compared) {
  const of = (outcomes: readonly RequestOutcome[], key: (typeof TIMES)[number][1], p: number) =>
    percentile(ascending(outcomes.map((one) => one[key]).filter(Number.isFinite)), p);
  return TIMES.flatMap(([name, key]) =>
    PERCENTILES.map((p) => {
      const [expected, found] = [of(predicted, key, p), of(measured, key, p)];
      return { name: `${name}, ms, p${p}`, predicted: expected, measured: found, off: expected / found - 1 };
    }),
  );
}

function tableOf(one: Compared): Table {
  return {
    title: `${one.rate} requests a second, ${one.measured.length} of them`,
    columns: ["", "predicted", "measured", "predicted is off by, %"],
    rows: [
      ...errorsOf(one).map(({ name, predicted, measured, off }) => [name, predicted, measured, 100 * off]),
      [
        "tokens of an answer",
        meanOf(one.predicted, "outputTokens"),
        meanOf(one.measured, "outputTokens"),
        "",
      ],
      ["of them drafts", meanOf(one.predicted, "acceptedTokens"), meanOf(one.measured, "acceptedTokens"), ""],
    ],
  };
}

function meanOf(outcomes: readonly RequestOutcome[], key: "outputTokens" | "acceptedTokens"): number {
  return outcomes.reduce((sum, one) => sum + one[key], 0) / outcomes.length;
}

function differences({ rate, predicted, measured }: Compared): string[] {
  const failed = [...predicted, ...measured].filter(({ outcome }) => outcome !== "done");
  return [...new Set(failed.map(({ outcome }) => `${rate} requests/s: a request ended with ${outcome}.`))];
}
