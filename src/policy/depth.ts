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

/** Whole numbers up to here, a survival and a row's number put together, are exact in a double. */
const MOST_EXACT = 2 ** 52;

/**
 * The goodput rule: of all drafts of all rows the likeliest first, as many as make expected tokens a millisecond most.
 * A row's drafts are taken in their order, since survival never rises. Every number of drafts from none to `most` is
 * weighed: the time of a step is not convex in its tokens. `predict` gives a step's milliseconds by its new tokens,
 * `trust` scales all survivals. Drafts that gain less than `margin`, a share, over none are left.
 */
export function planDrafts(
  rows: readonly RowSurvival[],
  most: number,
  predict: (tokens: number) => number,
  trust = 1,
  margin = 0,
): DraftPlan {
  const order = likeliestFirst(rows);
  const plainMs = predict(rows.length);
  const taken = new Uint8Array(rows.length);
  let expected = rows.length;
  let best = { drafts: 0, expected, ms: plainMs };
  for (let drafts = 1; drafts <= Math.min(most, order.length); drafts++) {
    const row = order[drafts - 1]!;
    expected += rows[row]![taken[row]!++]! * trust;
    const ms = predict(rows.length + drafts);
    const least = best.drafts === 0 ? 1 + margin : 1;
    if (expected * best.ms > best.expected * ms * least) best = { drafts, expected, ms };
  }
  const depths = new Uint8Array(rows.length);
  for (let i = 0; i < best.drafts; i++) depths[order[i]!]!++;
  return {
    depths,
    drafts: best.drafts,
    expectedTokens: best.expected,
    predictedMs: best.ms,
    plainRate: rows.length / plainMs,
  };
}

/**
 * The row of each draft, the likeliest draft first, equals in the order of rows. Drafts are sorted as numbers, of survival
 * first and row behind it, so that none is an object.
 */
function likeliestFirst(rows: readonly RowSurvival[]): Float64Array {
  let count = 0;
  for (const survivals of rows) count += survivals.length;
  const order = new Float64Array(count);
  const size = 2 ** Math.ceil(Math.log2(Math.max(1, rows.length)));
  const precision = MOST_EXACT / size;
  let at = 0;
  rows.forEach((survivals, row) => {
    for (let k = 0; k < survivals.length; k++) {
      order[at++] = row - Math.floor(survivals[k]! * precision) * size;
    }
  });
  order.sort();
  for (let i = 0; i < count; i++) order[i] = order[i]! - Math.floor(order[i]! / size) * size;
  return order;
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
