/** A row that a draft model could draft for. */
export interface ModelRow {
  /** Its number among the step's rows. */
  readonly row: number;
  /** Probability that one more draft of the model holds. */
  readonly promise: number;
  /** Drafts at most. */
  readonly most: number;
  /** What the step is planned to do with its other drafts: how many, and tokens expected of them. */
  readonly drafts: number;
  readonly expected: number;
}

/** The step as it is planned without the model. */
export interface WithoutModel {
  readonly rows: number;
  readonly drafts: number;
  readonly expectedTokens: number;
  readonly predictedMs: number;
}

export interface ModelPlan {
  /** Drafts a row. */
  readonly depth: number;
  /** Places in the list of rows that are to be drafted for. */
  readonly chosen: readonly number[];
  /** Tokens a millisecond over the plan without the model, as a ratio. */
  readonly gain: number;
}

/** Tokens that `depth` drafts are expected to bring where each holds with probability `promise`. */
export function expectedOf(promise: number, depth: number): number {
  let survival = 1;
  let expected = 0;
  for (let k = 0; k < depth; k++) {
    survival *= promise;
    expected += survival;
  }
  return expected;
}

/** Depths looked at beyond the best one: some steps are dearer than larger ones, by a panel of a kernel or two. */
const PAST_BEST = 3;

/**
 * How deep a draft model is to draft, and for which rows: those for which it is expected to bring more tokens than what
 * was planned for them, as deep as makes tokens a millisecond most. `verifyMs(tokens)`: time of the step that verifies;
 * `draftMs(rows)`: of one of the model's own, which come before it, one a draft. `room`: new tokens of the step at most.
 */
export function planModel(
  rows: readonly ModelRow[],
  without: WithoutModel,
  room: number,
  verifyMs: (tokens: number) => number,
  draftMs: (rows: number) => number,
): ModelPlan {
  const rate = without.expectedTokens / without.predictedMs;
  let best: ModelPlan = { depth: 0, chosen: [], gain: 1 };
  const times: number[] = [];
  const deepest = rows.reduce((most, row) => Math.max(most, row.most), 0);
  for (let depth = 1; depth <= deepest; depth++) {
    const chosen: number[] = [];
    let expected = without.expectedTokens;
    let tokens = without.rows + without.drafts;
    rows.forEach((row, i) => {
      const own = Math.min(depth, row.most);
      const more = expectedOf(row.promise, own) - row.expected;
      if (more <= 0 || tokens + own - row.drafts > room) return;
      chosen.push(i);
      expected += more;
      tokens += own - row.drafts;
    });
    let ms = verifyMs(tokens);
    for (let k = 1; k <= depth; k++) {
      const drafting = chosen.reduce((count, i) => count + (rows[i]!.most >= k ? 1 : 0), 0);
      if (drafting === 0) break;
      times[drafting] ??= draftMs(drafting);
      ms += times[drafting];
    }
    const gain = expected / ms / rate;
    if (gain > best.gain) best = { depth, chosen, gain };
    else if (depth > best.depth + PAST_BEST) break;
  }
  return best;
}

/**
 * What may be spent on trying a draft model that is not expected to pay: a share of the time that passes, so that a model
 * which never pays costs no more than that, and one that begins to is found.
 */
export class TrialBudget {
  #ms = 0;

  /** `share`: of the time that passes; `most`: milliseconds that can be saved up. */
  constructor(
    readonly share: number,
    readonly most: number,
  ) {}

  /** So many milliseconds of the lane's time have passed. */
  pass(ms: number): void {
    this.#ms = Math.min(this.most, this.#ms + this.share * ms);
  }

  allows(ms: number): boolean {
    return this.#ms >= ms;
  }

  spend(ms: number): void {
    this.#ms -= ms;
  }
}
