import type { DraftPlan } from "../policy/depth.js";
import { DRAFTERS } from "../policy/drafting.js";
import type { Context } from "../runtime/actor.js";
import type { DecodeRow } from "./decode-row.js";
import type { AppMessage } from "./messages.js";

/** Names of spans whose value is the number of a row's drafts: by who made the first of them. */
const BY_DRAFTER = DRAFTERS.map((drafter) => `drafts from ${drafter}`);

/**
 * Writes down what a step was planned to draft, and why: for each row the number of its drafts, and for the step its
 * rows, their drafts on average, how many tokens it is expected to draw, how many milliseconds it is expected to take, and by how many percent more
 * tokens a millisecond that is than without drafts.
 */
export function traceDrafts(
  ctx: Context<AppMessage>,
  startedAt: number,
  step: readonly DecodeRow[],
  plan: DraftPlan,
): void {
  step.forEach((row, i) => {
    const depth = plan.depths[i]!;
    if (depth === 0 || !row.drafting) return;
    ctx.trace(BY_DRAFTER[row.drafting.makers[0]!]!, startedAt, row.journey.request, depth);
  });
  const gain = (plan.expectedTokens / plan.predictedMs / plan.plainRate - 1) * 100;
  ctx.trace("rows", startedAt, 0, step.length);
  ctx.trace("drafts a row", startedAt, 0, plan.drafts / step.length);
  ctx.trace("expected tokens", startedAt, 0, plan.expectedTokens);
  ctx.trace("predicted ms", startedAt, 0, plan.predictedMs);
  ctx.trace("expected gain %", startedAt, 0, gain);
}
