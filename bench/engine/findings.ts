import { median, summarize } from "#streamserve/report/statistics.js";
import type { MachineCeilings } from "../ceilings.js";
import type { Findings, Table } from "../report.js";
import type { Comparison } from "./compare.js";
import { decodeBytes, type ModelCosts, prefillMacs } from "./model-costs.js";
import type { Verification } from "./verification.js";
import { describeWorkload, LONG_DECODE, SHORT_DECODE, type Workload } from "./workloads.js";

export interface EngineMeasurements {
  readonly comparisons: readonly Comparison[];
  readonly verification: readonly Verification[];
  readonly ceilings: MachineCeilings;
  readonly costs: ModelCosts;
  /** Workloads that the model's context has no room for. */
  readonly notRun: readonly string[];
}

/** How near a workload comes to what the machine can do. */
export interface Shares {
  /** Of the bandwidth of reading a set as large as the weights; only decoding is judged by it. */
  readonly memory: number;
  /** Of the int8 peak. */
  readonly int8: number;
}

export function shares(
  workload: Workload,
  tokensPerSecond: number,
  { costs, ceilings }: EngineMeasurements,
): Shares {
  const int8Peak = ceilings.int8;
  if (workload.kind === "prefill") {
    const perSecond = tokensPerSecond / workload.tokens;
    return { memory: Number.NaN, int8: (prefillMacs(costs, workload.tokens) * perSecond) / int8Peak };
  }
  const context = middleContext(workload);
  const steps = tokensPerSecond / workload.sequences;
  return {
    memory: (decodeBytes(costs, workload.sequences, context) * steps) / ceilings.workingSet,
    int8: ((costs.layerMacs + costs.headMacs) * tokensPerSecond) / int8Peak,
  };
}

/** What decoding with much context takes, beside what its bytes predict from decoding with little. */
export interface LongContext {
  readonly stepMs: number;
  /** Of a step that reads so many bytes (weights and KV) as fast as the short one reads its own. */
  readonly predictedMs: number;
  /** Median over rounds of step / predicted step. */
  readonly ratio: number;
}

/** Nothing unless both were run. */
export function longContext({ comparisons, costs }: EngineMeasurements): LongContext | undefined {
  const runs = (wanted: Workload) => comparisons.find(({ workload }) => workload === wanted)?.ours;
  const short = runs(SHORT_DECODE);
  const long = runs(LONG_DECODE);
  if (short === undefined || long === undefined) return undefined;
  const bytes = (workload: Workload) => decodeBytes(costs, 1, middleContext(workload));
  const more = bytes(LONG_DECODE) / bytes(SHORT_DECODE);
  return {
    stepMs: 1000 / median(long),
    predictedMs: (1000 / median(short)) * more,
    ratio: median(long.map((rate, round) => short[round]! / rate / more)),
  };
}

/** Tokens that a sequence holds in the middle of its decoding. */
function middleContext(workload: Workload): number {
  return workload.kind === "prefill" ? 0 : workload.promptTokens + workload.outputTokens / 2;
}

export function engineFindings(measured: EngineMeasurements): Omit<Findings, "settings"> {
  const { comparisons, verification, ceilings } = measured;
  const notes = measured.notRun.map((name) => `Not run: ${name}; the model's context has no room for it.`);
  const long = longContext(measured);
  const peers = comparisons.flatMap((comparison) => comparison.peers);
  const idle = Math.max(0, ...peers.map((peer) => peer.ourIdleCores));
  for (const { workload, companyCores } of comparisons) {
    if (companyCores > COMPANY_LIMIT) {
      notes.push(
        `${describeWorkload(workload)}: other programs took ${(companyCores * 100).toFixed(0)}% of a core while ours ran, which is too slow for it.`,
      );
    }
  }
  if (idle > IDLE_LIMIT) {
    notes.push(
      `Our idle threads took ${(idle * 100).toFixed(0)}% of a core while a peer ran: its figures are too low.`,
    );
  }
  return {
    tables: [
      ceilingsTable(ceilings),
      oursTable(measured),
      ...(long === undefined ? [] : [longContextTable(long)]),
      ...(verification.length > 0 ? [verificationTable(verification)] : []),
      ...(comparisons.some(({ peers }) => peers.length > 0) ? [peersTable(comparisons)] : []),
    ],
    notes,
    results: {
      ...measured,
      longContext: long,
      shares: comparisons.map((c) => shares(c.workload, median(c.ours), measured)),
    },
    figures: figures(comparisons, verification),
  };
}

/** Share of a core that others may take while ours run: what the system itself takes, and twice the grain of its count. */
const COMPANY_LIMIT = 0.1;
/** Share of a core that idle threads may take before a peer's run is spoilt by them. */
const IDLE_LIMIT = 0.02;

export function ceilingsTable(ceilings: MachineCeilings): Table {
  return {
    title: `What this machine can do, ${ceilings.threads} threads`,
    columns: ["", "measured"],
    rows: [
      ["reading main memory, GB/s", ceilings.mainMemory / 1e9],
      [
        `reading ${(ceilings.workingSetBytes / 2 ** 20).toFixed(0)} MiB again and again, GB/s`,
        ceilings.workingSet / 1e9,
      ],
      [`int8, GMAC/s (${ceilings.instructionSet})`, ceilings.int8 / 1e9],
      [`f32, GMAC/s (${ceilings.instructionSet})`, ceilings.f32 / 1e9],
    ],
  };
}

function oursTable(measured: EngineMeasurements): Table {
  return {
    title: "StreamServe's engine, tokens/s",
    columns: ["", "median", "least", "most", "% of bandwidth", "% of int8 peak"],
    rows: measured.comparisons.map(({ workload, ours }) => {
      const { p50, min, max } = summarize(ours);
      const share = shares(workload, p50, measured);
      return [describeWorkload(workload), p50, min, max, share.memory * 100, share.int8 * 100];
    }),
  };
}

function longContextTable({ stepMs, predictedMs, ratio }: LongContext): Table {
  return {
    title: "Decoding with much context, beside what its bytes predict from little",
    columns: ["", "ms a step", "predicted", "x predicted"],
    rows: [[describeWorkload(LONG_DECODE), stepMs, predictedMs, ratio]],
  };
}

function verificationTable(verification: readonly Verification[]): Table {
  return {
    title: "Verifying drafts of one sequence",
    columns: ["drafts", "ms a step", "x a plain step", "positions/s"],
    rows: verification.map(({ drafts, stepMs, relative }) => [
      String(drafts),
      stepMs,
      relative,
      ((drafts + 1) * 1000) / stepMs,
    ]),
  };
}

function peersTable(comparisons: readonly Comparison[]): Table {
  return {
    title: "Beside others, runs alternating: ours on the file as shipped / theirs",
    columns: ["", "ours", "theirs", "ratio", "least", "most", "settings"],
    rows: comparisons.flatMap(({ workload, ours, peers }) =>
      peers.map(({ name, runs, ratio, settings }) => [
        `${describeWorkload(workload)}: ${name}`,
        median(ours),
        median(runs),
        ratio.median,
        ratio.min,
        ratio.max,
        settings,
      ]),
    ),
  };
}

function figures(
  comparisons: readonly Comparison[],
  verification: readonly Verification[],
): Findings["figures"] {
  const names = [...new Set(comparisons.flatMap(({ peers }) => peers.map(({ name }) => name)))];
  const speeds: Findings["figures"][number] = {
    kind: "bars",
    title: "Engine speed",
    valueLabel: "tokens/s",
    groups: comparisons.map(({ workload }) => describeWorkload(workload)),
    series: [
      { name: "StreamServe", values: comparisons.map(({ ours }) => median(ours)) },
      ...names.map((name) => ({
        name,
        values: comparisons.map(({ peers }) => {
          const peer = peers.find((one) => one.name === name);
          return peer ? median(peer.runs) : null;
        }),
      })),
    ],
  };
  if (verification.length === 0) return [speeds];
  return [
    speeds,
    {
      kind: "lines",
      title: "Cost of verifying drafts",
      valueLabel: "times a plain step",
      xLabel: "drafts",
      logarithmic: false,
      series: [
        { name: "StreamServe", points: verification.map(({ drafts, relative }) => [drafts, relative]) },
      ],
    },
  ];
}
