import { ascending, percentile } from "../../report/statistics.js";
import { isGood } from "./results.js";
import type { Objectives, RequestOutcome, Strike } from "./serving.js";

/** A time of a run: while faults lasted, or between them. Milliseconds from the run's start. */
export interface Phase {
  readonly name: string;
  readonly fromMs: number;
  readonly toMs: number;
  /** Some fault lasted. */
  readonly disturbed: boolean;
}

/** What requests met in a phase: those under way while faults lasted, or those that came and went between faults. */
export interface PhaseResult extends Phase {
  readonly requests: number;
  readonly attainment: number;
  /** Requests a second that ended in the phase as promised; NaN for a phase without duration. */
  readonly goodputPerSecond: number;
  readonly ttftMs: Percentiles;
  readonly tpotMs: Percentiles;
  readonly latencyMs: Percentiles;
  /** The longest that any reader waited for more after its first token. */
  readonly stillMs: number;
}

interface Percentiles {
  readonly p50: number;
  readonly p99: number;
}

/** The phases of a run of `endMs`, from `startMs` on; faults that overlap are one. None without strikes. */
export function phasesOf(strikes: readonly Strike[], startMs: number, endMs: number): Phase[] {
  const spans: { fromMs: number; toMs: number }[] = [];
  for (const { fromMs, toMs } of [...strikes].sort((a, b) => a.fromMs - b.fromMs)) {
    const until = Math.min(toMs, endMs);
    const last = spans.at(-1);
    if (last && fromMs <= last.toMs) last.toMs = Math.max(last.toMs, until);
    else spans.push({ fromMs, toMs: until });
  }
  if (spans.length === 0) return [];
  const phases: Phase[] = [];
  let at = startMs;
  for (const [i, { fromMs, toMs }] of spans.entries()) {
    const name = i === 0 ? "before" : "between";
    if (fromMs > at) phases.push({ name, fromMs: at, toMs: fromMs, disturbed: false });
    phases.push({ name: "during", fromMs, toMs: Math.max(fromMs, toMs), disturbed: true });
    at = Math.max(at, toMs);
  }
  if (endMs > at) phases.push({ name: "after", fromMs: at, toMs: endMs, disturbed: false });
  return phases;
}

/** What the run's requests met in each phase. */
export function phaseResults(
  phases: readonly Phase[],
  requests: readonly RequestOutcome[],
  objectives: Objectives,
): PhaseResult[] {
  return phases.map((phase) => {
    const { fromMs, toMs, disturbed } = phase;
    const endOf = ({ atMs, totalMs }: RequestOutcome) => atMs + totalMs;
    const met = requests.filter((one) =>
      disturbed ? one.atMs <= toMs && endOf(one) >= fromMs : one.atMs >= fromMs && endOf(one) <= toMs,
    );
    const ended = requests.filter((one) => endOf(one) >= fromMs && endOf(one) <= toMs);
    const good = (some: readonly RequestOutcome[]) => some.filter((one) => isGood(one, objectives)).length;
    const done = met.filter(({ outcome }) => outcome === "done");
    const each = (of: (request: RequestOutcome) => number) => {
      const values = ascending(done.map(of).filter(Number.isFinite));
      return { p50: percentile(values, 50), p99: percentile(values, 99) };
    };
    return {
      ...phase,
      requests: met.length,
      attainment: good(met) / met.length,
      goodputPerSecond: (1000 * good(ended)) / (toMs - fromMs),
      ttftMs: each(({ ttftMs }) => ttftMs),
      tpotMs: each(({ tpotMs }) => tpotMs),
      latencyMs: each(({ totalMs }) => totalMs),
      stillMs: done.reduce((most, { stillMs }) => Math.max(most, stillMs || 0), 0),
    };
  });
}
