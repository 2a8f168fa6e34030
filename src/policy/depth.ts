import type { AcceptanceByPosition } from "./acceptance.js";
import type { StepCost } from "./step-cost.js";

/** The typical step of a lane, drafts not counted. */
export interface StepLoad {
  readonly rows: number;
  readonly contextTokens: number;
}

/** Tokens that a step at this depth is expected to give, and to compute. */
export function expectedTokens(
  acceptance: AcceptanceByPosition,
  rows: number,
  depth: number,
): { readonly drawn: number; readonly computed: number } {
  let drawn = 1;
  let computed = 1;
  for (let i = 0; i < depth; i++) {
    drawn += acceptance.accepted(i);
    computed += acceptance.proposed(i);
  }
  return { drawn: drawn * rows, computed: computed * rows };
}

/** Expected tokens a millisecond at this depth. */
export function goodput(
  acceptance: AcceptanceByPosition,
  cost: StepCost,
  load: StepLoad,
  depth: number,
): number {
  const { drawn, computed } = expectedTokens(acceptance, load.rows, depth);
  return drawn / cost.predict({ ...load, tokens: computed });
}

/** The depth from 0 to `maxDepth` with the most expected tokens a millisecond; the shallower of equals. */
export function chooseDepth(
  acceptance: AcceptanceByPosition,
  cost: StepCost,
  load: StepLoad,
  maxDepth: number,
): number {
  let best = 0;
  let bestRate = goodput(acceptance, cost, load, 0);
  for (let depth = 1; depth <= maxDepth; depth++) {
    const rate = goodput(acceptance, cost, load, depth);
    if (rate <= bestRate) continue;
    best = depth;
    bestRate = rate;
  }
  return best;
}
