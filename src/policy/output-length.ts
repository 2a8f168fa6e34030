/**
 * How long an answer will be, by what answers to similar requests were: quantiles over the last ones of the same
 * class and prompt kind. A quantile that the answers seen can't vouch for is the request's own limit, so that a
 * guess is never bolder than what is known. Memory is bounded: a fixed number of kinds, a ring of lengths each.
 */

export interface LengthQuery {
  readonly offline: boolean;
  readonly promptTokens: number;
  /** Output tokens before which the answer can't end. */
  readonly minTokens: number;
  readonly maxTokens: number;
}

/** Prompt kinds: lengths within a factor of four are alike. */
const KINDS = 8;

export class OutputLengths {
  /** By class, then by kind; the last of a class is over all its kinds. */
  readonly #rings: readonly Ring[];

  /** `memory`: answers remembered of each kind. */
  constructor(memory: number) {
    this.#rings = Array.from({ length: 2 * (KINDS + 1) }, () => new Ring(memory));
  }

  /** An answer has ended after `outputTokens`; `cut`: by its limit, not by itself. */
  observe(query: LengthQuery, outputTokens: number, cut: boolean): void {
    // One that could not end earlier says nothing of others.
    if (query.minTokens >= query.maxTokens) return;
    for (const ring of [this.#ring(query, kindOf(query)), this.#ring(query, KINDS)])
      ring.push(outputTokens, cut);
  }

  /**
   * Output tokens that a request, after `produced` of them, does not exceed with probability `share`; between what
   * it must produce and its limit. The rank is that of conformal prediction, ceil((n + 1) * share) of n answers:
   * it errs to the safe side however few there are. An answer that was cut counts as unbounded.
   */
  quantile(query: LengthQuery, share: number, produced = 0): number {
    const { minTokens, maxTokens } = query;
    const own = this.#ring(query, kindOf(query)).quantile(share, produced);
    const tokens = own ?? this.#ring(query, KINDS).quantile(share, produced) ?? maxTokens;
    return Math.min(maxTokens, Math.max(tokens, minTokens, produced + 1));
  }

  #ring({ offline }: LengthQuery, kind: number): Ring {
    return this.#rings[(offline ? KINDS + 1 : 0) + kind] as Ring;
  }
}

function kindOf({ promptTokens }: LengthQuery): number {
  return Math.min(KINDS - 1, Math.floor(Math.log2(Math.max(1, promptTokens)) / 2));
}

/** The last lengths of a kind. Those of answers that were cut are kept as infinite: they would have gone on. */
class Ring {
  readonly #lengths: Float64Array;
  #seen = 0;

  constructor(memory: number) {
    this.#lengths = new Float64Array(memory);
  }

  push(tokens: number, cut: boolean): void {
    this.#lengths[this.#seen++ % this.#lengths.length] = cut ? Number.POSITIVE_INFINITY : tokens;
  }

  /** Undefined when too few answers were longer than `produced` to tell. */
  quantile(share: number, produced: number): number | undefined {
    const known = this.#lengths
      .subarray(0, Math.min(this.#seen, this.#lengths.length))
      .filter((length) => length > produced)
      .sort();
    return known[Math.ceil((known.length + 1) * share) - 1];
  }
}
