/** Survival of a row's drafts: probability that the first, the first two, ... hold. Never rises. */
export type RowSurvival = ArrayLike<number>;

/** What a step is to draft, and why. */
export interface DraftPlan {
  /** Drafts of each row. */
  readonly depths: Uint8Array;
  readonly drafts: number;
  /** Tokens that the step is expected to draw, and milliseconds it is expected to take. */
  readonly expectedTokens: number;
  readonly predictedMs: number;
  /** Tokens a millisecond expected without any draft. */
  readonly plainRate: number;
}

interface Candidate {
  readonly row: number;
  readonly survival: number;
}

/**
 * The goodput rule: of all drafts of all rows the likeliest first, as many as make expected tokens a millisecond most.
 * A row's drafts are taken in their order, since survival never rises. Every number of drafts from none to `most` is
 * weighed: the time of a step is not convex in its tokens. `predict` gives a step's milliseconds by its new tokens,
 * `trust` scales all survivals.
 */
export function planDrafts(
  rows: readonly RowSurvival[],
  most: number,
  predict: (tokens: number) => number,
  trust = 1,
): DraftPlan {
  const candidates: Candidate[] = [];
  rows.forEach((survivals, row) => {
    for (let k = 0; k < survivals.length; k++) candidates.push({ row, survival: survivals[k]! });
  });
  // Stable: equals keep the order of rows, and of a row's drafts.
  candidates.sort((a, b) => b.survival - a.survival);
  const plainMs = predict(rows.length);
  let expected = rows.length;
  let best = { drafts: 0, expected, ms: plainMs };
  for (let drafts = 1; drafts <= Math.min(most, candidates.length); drafts++) {
    expected += candidates[drafts - 1]!.survival * trust;
    const ms = predict(rows.length + drafts);
    if (expected * best.ms > best.expected * ms) best = { drafts, expected, ms };
  }
  const depths = new Uint8Array(rows.length);
  for (let i = 0; i < best.drafts; i++) depths[candidates[i]!.row]!++;
  return {
    depths,
    drafts: best.drafts,
    expectedTokens: best.expected,
    predictedMs: best.ms,
    plainRate: rows.length / plainMs,
  };
}

/** Every row as deep as its drafts and its entry of `wanted` allow: what the rule is compared with. */
export function planGiven(
  rows: readonly RowSurvival[],
  wanted: ArrayLike<number>,
  most: number,
  predict: (tokens: number) => number,
): DraftPlan {
  const depths = new Uint8Array(rows.length);
  let drafts = 0;
  let expected = rows.length;
  rows.forEach((survivals, row) => {
    for (let k = 0; k < Math.min(wanted[row]!, survivals.length) && drafts < most; k++, drafts++) {
      depths[row]!++;
      expected += survivals[k]!;
    }
  });
  return {
    depths,
    drafts,
    expectedTokens: expected,
    predictedMs: predict(rows.length + drafts),
    plainRate: rows.length / predict(rows.length),
  };
}
