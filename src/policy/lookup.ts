/**
 * Drafts by prompt lookup: the longest recent suffix of prompt + output is looked for earlier in the same text,
 * and what followed it there is proposed. The index is a hash chain over n-grams of `shortest` tokens, as
 * compressors of the LZ77 kind keep it: one table of heads, one link a position, so that a token costs O(1) and
 * no garbage, and a look-up a bounded number of comparisons.
 */
export class PromptLookup {
  readonly #tokens: Uint32Array;
  readonly #heads: Int32Array;
  /** Position before which the same n-gram (by hash) ended last; -1: none. */
  readonly #links: Int32Array;
  readonly #mask: number;
  #length = 0;

  /**
   * `capacity`: tokens of prompt and output at most. `longest`, `shortest`: suffix lengths tried, in tokens.
   * `candidates`: earlier places compared in a look-up, at most.
   */
  constructor(
    readonly capacity: number,
    readonly longest: number,
    readonly shortest: number,
    readonly candidates: number,
  ) {
    let size = 16;
    while (size < capacity) size *= 2;
    this.#tokens = new Uint32Array(capacity);
    this.#heads = new Int32Array(size).fill(-1);
    this.#links = new Int32Array(capacity);
    this.#mask = size - 1;
  }

  get length(): number {
    return this.#length;
  }

  /** Appends a token; beyond the capacity it is forgotten. */
  push(token: number): void {
    if (this.#length >= this.capacity) return;
    // The n-gram that ends before this token becomes findable now: something follows it.
    if (this.#length >= this.shortest) {
      const slot = this.#slot(this.#length);
      this.#links[this.#length] = this.#heads[slot] as number;
      this.#heads[slot] = this.#length;
    }
    this.#tokens[this.#length++] = token;
  }

  /** Writes at most `most` draft tokens to `into`; returns how many. The longest match wins, then the latest. */
  draft(into: Uint32Array, offset: number, most: number): number {
    const length = this.#length;
    if (most <= 0 || length < this.shortest) return 0;
    let best = -1;
    let bestMatch = this.shortest - 1;
    let place = this.#heads[this.#slot(length)] as number;
    for (let tried = 0; place >= 0 && tried < this.candidates; tried++) {
      const match = this.#matching(place, length);
      if (match > bestMatch) {
        best = place;
        bestMatch = match;
        if (match >= this.longest) break;
      }
      place = this.#links[place] as number;
    }
    if (best < 0) return 0;
    // Text that repeats itself with a short period is continued past its end by reading what was just drafted.
    for (let i = 0; i < most; i++) {
      const from = best + i;
      into[offset + i] = (from < length ? this.#tokens[from] : into[offset + from - length]) as number;
    }
    return most;
  }

  /** Tokens that agree, going back from `place` and from `end`, `longest` at most. */
  #matching(place: number, end: number): number {
    let n = 0;
    while (n < this.longest && n < place && this.#tokens[place - 1 - n] === this.#tokens[end - 1 - n]) n++;
    return n;
  }

  /** Table slot of the n-gram that ends before `end`. */
  #slot(end: number): number {
    let hash = 0x811c9dc5;
    for (let i = end - this.shortest; i < end; i++) {
      hash = Math.imul(hash ^ (this.#tokens[i] as number), 0x01000193);
      hash ^= hash >>> 15;
    }
    return hash & this.#mask;
  }
}
