import type { LaneEngine } from "../engine/engine.js";
import type { StepCostPrior, StepPoint } from "../policy/step-cost.js";
import { type Probe, probeAttending, probeReading, probeRows } from "./calibration-probes.js";
import { timeStepAlone } from "./timed-step.js";

/** What steps of a lane cost, measured before its first request. */
export interface Calibration {
  readonly points: readonly StepPoint[];
  /** What context and rows add; one that was not timed is absent. */
  readonly more?: { readonly [K in "contextMs" | "attendMs" | "rowMs"]?: StepCostPrior[K] | undefined };
}

/**
 * Token numbers of decode steps that are timed: each one while a step may be one panel of a kernel or two or three,
 * since the time of a step leaps where panels change width; further on it is nearly a straight line.
 */
const DECODE_SIZES = [...Array.from({ length: 32 }, (_, i) => i + 1), 48, 64, 128, 256];
/** Prefill computes logits of a prompt's last token alone; long chunks dominate. */
const PREFILL_SIZES = [1, 8, 16, 32, 64, 128, 256, 512];
/** A step is timed so often at most; the least time counts, since whatever else the machine does only adds. */
const ROUNDS = 3;
/** What timing rows, and context, may take beside that, as shares of its time. */
const ROWS_SHARE = 0.15;
const CONTEXT_SHARE = 0.45;

/**
 * Times steps on a lane nobody else uses: of one row without context, smallest first, for about `budgetMs`, then what
 * context and rows add, for about 60% of that. What the budget or the lane's limits leave out is left out of the result,
 * which has at least two points. The tokens are arbitrary: time does not depend on them. Throws what the engine throws.
 */
export function calibrate(lane: LaneEngine, role: "prefill" | "decode", budgetMs: number): Calibration {
  const best = timeSizes(lane, role, budgetMs);
  const points = pointsOf(best);
  const { tokens, ms } = points.at(-1)!;
  const probe = (share: number): Probe => ({ lane, tokenMs: ms / tokens, budgetMs: share * budgetMs });
  // Decode reads context with a token a row, prefill attends to it with long chunks: each is timed as it is.
  const more =
    role === "decode"
      ? { rowMs: probeRows(probe(ROWS_SHARE)), contextMs: probeReading(probe(CONTEXT_SHARE)) }
      : { attendMs: probeAttending(probe(ROWS_SHARE + CONTEXT_SHARE)) };
  return { points, more };
}

/** The least time of each size. */
function timeSizes(lane: LaneEngine, role: "prefill" | "decode", budgetMs: number): Map<number, number> {
  const sizes = sizesOf(lane, role === "decode" ? DECODE_SIZES : PREFILL_SIZES);
  const time = (tokens: number) => timeStepAlone(lane, tokens, role === "decode" ? tokens - 1 : 0);
  const best = new Map<number, number>();
  const endAt = performance.now() + budgetMs;
  // The first step of an engine also brings the weights into memory.
  time(sizes[0]!);
  for (let round = 0; round < ROUNDS; round++) {
    for (const tokens of sizes) {
      const ms = time(tokens);
      best.set(tokens, Math.min(best.get(tokens) ?? Number.POSITIVE_INFINITY, ms));
      if (best.size >= 2 && performance.now() >= endAt) return best;
    }
  }
  return best;
}

/** The sizes that fit the lane and its pool; the largest that fits is among them. */
function sizesOf(lane: LaneEngine, wanted: readonly number[]): number[] {
  const { maxBatchTokens, contextTokens, blockTokens } = lane.limits;
  const most = Math.max(2, Math.min(maxBatchTokens, contextTokens - 1, lane.kv().totalBlocks * blockTokens));
  return [...wanted.filter((tokens) => tokens < most), most];
}

/** A step of fewer tokens takes no longer than one of more: where it was seen to, something else took the time. */
function pointsOf(best: ReadonlyMap<number, number>): StepPoint[] {
  let least = Number.POSITIVE_INFINITY;
  const descending = [...best].sort(([a], [b]) => b - a);
  return descending
    .map(([tokens, ms]): StepPoint => {
      least = Math.min(least, ms);
      return { tokens, ms: least };
    })
    .reverse();
}
