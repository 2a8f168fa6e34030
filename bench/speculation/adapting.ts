import type { Span } from "#streamserve/runtime/trace-ring.js";

/** How fast the depth followed a change of load. */
export interface Adapting {
  readonly rows: number;
  /** Mean drafts a row once it had settled. */
  readonly settled: number;
  /** Steps with that many rows until the depth was near there for good. */
  readonly steps: number;
}

/** Steps over which the depth is averaged: single steps differ by what there is to draft. */
const WINDOW = 10;
/** The mean of a window is near when it is off by no more than this share, or so many drafts. */
const NEAR_SHARE = 0.25;
const NEAR_DRAFTS = 0.3;

/**
 * Reads from a decode lane's spans how many steps it took, after its rows had become `rows`, until the drafts a row
 * came near their later mean. Undefined with too few such steps.
 */
export function adaptingOf(spans: readonly Span[], rows: number): Adapting | undefined {
  const depths: number[] = [];
  let current = 0;
  for (const { name, value } of spans) {
    if (name === "rows") current = value;
    else if (name === "drafts a row" && current === rows) depths.push(value);
  }
  if (depths.length < 6 * WINDOW) return undefined;
  const mean = (from: number, to: number) =>
    depths.slice(from, to).reduce((sum, depth) => sum + depth, 0) / (to - from);
  const settled = mean(depths.length >> 1, depths.length);
  const near = Math.max(NEAR_DRAFTS, NEAR_SHARE * settled);
  for (let at = 0; at + WINDOW <= depths.length; at++) {
    if (Math.abs(mean(at, at + WINDOW) - settled) <= near) return { rows, settled, steps: at };
  }
  return { rows, settled, steps: depths.length };
}
