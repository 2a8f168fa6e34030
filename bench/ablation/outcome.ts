import { ascending, percentile } from "#streamserve/report/statistics.js";

/** What became of one request. */
export interface Served {
  /** When it came and when it ended, in milliseconds of one clock. */
  readonly cameMs: number;
  readonly endedMs: number;
  /** Milliseconds to the first token, and to each further one; NaN where there was none. */
  readonly firstTokenMs: number;
  readonly tokenMs: number;
  readonly outputTokens: number;
  /** False for one that was refused or failed. */
  readonly done: boolean;
}

/** What a request must keep to if it is to count as good, in milliseconds. */
export interface Objective {
  readonly ttftMs: number;
  readonly tpotMs: number;
}

/** What a run gave. */
export interface Outcome {
  /** Output tokens a second from the first arrival to the last end. */
  readonly throughput: number;
  readonly ttftP50: number;
  readonly ttftP99: number;
  readonly tpotP50: number;
  readonly tpotP99: number;
  /** Requests a second that kept to the objective, over the same time. */
  readonly goodput: number;
}

export const MEASURES: readonly {
  readonly key: keyof Outcome;
  readonly name: string;
  readonly more: "better" | "worse";
}[] = [
  { key: "throughput", name: "tokens/s", more: "better" },
  { key: "ttftP50", name: "TTFT p50", more: "worse" },
  { key: "ttftP99", name: "TTFT p99", more: "worse" },
  { key: "tpotP50", name: "TPOT p50", more: "worse" },
  { key: "tpotP99", name: "TPOT p99", more: "worse" },
  { key: "goodput", name: "goodput", more: "better" },
];

/** Percentiles are over requests that were answered: what was refused in time kept nobody waiting. */
export function outcomeOf(served: readonly Served[], objective: Objective): Outcome {
  const done = served.filter((one) => one.done);
  const from = Math.min(...served.map(({ cameMs }) => cameMs));
  const to = Math.max(...served.map(({ endedMs }) => endedMs));
  const seconds = (to - from) / 1000;
  const firsts = ascending(done.map(({ firstTokenMs }) => firstTokenMs));
  const tokens = ascending(done.map(({ tokenMs }) => tokenMs).filter(Number.isFinite));
  const good = done.filter(
    ({ firstTokenMs, tokenMs }) => firstTokenMs <= objective.ttftMs && !(tokenMs > objective.tpotMs),
  );
  return {
    throughput: done.reduce((sum, { outputTokens }) => sum + outputTokens, 0) / seconds,
    ttftP50: percentile(firsts, 50),
    ttftP99: percentile(firsts, 99),
    tpotP50: percentile(tokens, 50),
    tpotP99: percentile(tokens, 99),
    goodput: good.length / seconds,
  };
}
