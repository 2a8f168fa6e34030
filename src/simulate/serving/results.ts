import { type Summary, summarize } from "../../report/statistics.js";
import type { LaneUse, Objectives, RequestOutcome, ServingRun } from "./serving.js";

/** What a planner wants to know of a run. Times in milliseconds, rates a second of virtual time. */
export interface ServingResult {
  readonly requests: number;
  readonly completed: number;
  /** Requests that were not served, by code. */
  readonly refused: Readonly<Record<string, number>>;
  /** Of the completed ones. */
  readonly ttftMs: Summary;
  readonly tpotMs: Summary;
  readonly latencyMs: Summary;
  readonly queuedMs: Summary;
  /** How long a refused request waited for its refusal. */
  readonly refusedMs: Summary;
  /** Share of all requests that kept both objectives; refused ones kept none. */
  readonly attainment: number;
  readonly requestsPerSecond: number;
  readonly goodputPerSecond: number;
  readonly outputTokensPerSecond: number;
  readonly totalTokensPerSecond: number;
  /** Share of prompt tokens that were found in a cache. */
  readonly prefixHitRate: number;
  /** Drafts that held, as a share of those verified; drafts and tokens a row and step of decode lanes. */
  readonly acceptance: number;
  readonly tokensPerStep: number;
  readonly prefill: LaneResult;
  readonly decode: LaneResult;
  /** Mean milliseconds that a hand-off took. */
  readonly handOffMs: number;
  readonly virtualSeconds: number;
  readonly events: number;
}

export interface LaneResult extends LaneUse {
  /** Share of the run that its lanes computed. */
  readonly utilisation: number;
  readonly stepMs: number;
  readonly rowsPerStep: number;
}

/** True for a request that was served as promised. */
export function isGood({ outcome, ttftMs, tpotMs }: RequestOutcome, objectives: Objectives): boolean {
  if (outcome !== "done") return false;
  if (objectives.ttftMs > 0 && ttftMs > objectives.ttftMs) return false;
  return objectives.tpotMs === 0 || Number.isNaN(tpotMs) || tpotMs <= objectives.tpotMs;
}

/** Adds a run up. `from`: requests that came before this virtual time, in milliseconds, only warmed the lanes up. */
export function servingResult(run: ServingRun, objectives: Objectives, from = 0): ServingResult {
  const requests = run.requests.filter(({ atMs }) => atMs >= from);
  const done = requests.filter(({ outcome }) => outcome === "done");
  const seconds = Math.max(run.spanMs - from, Number.EPSILON) / 1000;
  const sum = (of: (request: RequestOutcome) => number) =>
    done.reduce((total, request) => total + of(request), 0);
  const each = (of: (request: RequestOutcome) => number) =>
    summarize(done.map(of).filter((value) => !Number.isNaN(value)));
  const refused: Record<string, number> = {};
  const refusedMs: number[] = [];
  for (const { outcome, totalMs } of requests) {
    if (outcome === "done") continue;
    refused[outcome] = (refused[outcome] ?? 0) + 1;
    refusedMs.push(totalMs);
  }
  const good = requests.filter((request) => isGood(request, objectives)).length;
  const outputTokens = sum((request) => request.outputTokens);
  const promptTokens = sum((request) => request.promptTokens);
  const drafts = sum((request) => request.draftTokens);
  const accepted = sum((request) => request.acceptedTokens);
  return {
    requests: requests.length,
    completed: done.length,
    refused,
    ttftMs: each(({ ttftMs }) => ttftMs),
    tpotMs: each(({ tpotMs }) => tpotMs),
    latencyMs: each(({ totalMs }) => totalMs),
    queuedMs: each(({ queuedMs }) => queuedMs),
    refusedMs: summarize(refusedMs),
    attainment: good / Math.max(1, requests.length),
    requestsPerSecond: done.length / seconds,
    goodputPerSecond: good / seconds,
    outputTokensPerSecond: outputTokens / seconds,
    totalTokensPerSecond: (outputTokens + promptTokens) / seconds,
    prefixHitRate: sum((request) => request.cachedTokens) / Math.max(1, promptTokens),
    acceptance: accepted / Math.max(1, drafts),
    tokensPerStep: outputTokens / Math.max(1, outputTokens - accepted),
    prefill: laneResult(run.prefill, run.spanMs),
    decode: laneResult(run.decode, run.spanMs),
    handOffMs: run.handOffs > 0 ? run.movingMs / run.handOffs : 0,
    virtualSeconds: run.spanMs / 1000,
    events: run.events,
  };
}

function laneResult(use: LaneUse, spanMs: number): LaneResult {
  const { lanes, steps, busyMs, rows } = use;
  return {
    ...use,
    utilisation: busyMs / Math.max(Number.EPSILON, spanMs * lanes),
    stepMs: busyMs / Math.max(1, steps),
    rowsPerStep: rows / Math.max(1, steps),
  };
}
