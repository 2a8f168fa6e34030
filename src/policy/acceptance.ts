/**
 * What drafting to each position yields, learnt from counts: of all row-steps that might have drafted there, the
 * share that did, and the share that had the draft accepted. Both fade exponentially by evidence, so that a
 * change of subject is followed within some hundred row-steps.
 */
export class AcceptanceByPosition {
  readonly #proposed: Float64Array;
  readonly #accepted: Float64Array;

  /** `memory`: row-steps after which old evidence weighs 1/e. `prior`: acceptance assumed of the first position. */
  constructor(
    readonly depth: number,
    readonly memory: number,
    prior: number,
  ) {
    this.#proposed = Float64Array.from({ length: depth }, () => 0.5);
    this.#accepted = Float64Array.from({ length: depth }, (_, i) => prior ** (i + 1));
  }

  observe(chances: ArrayLike<number>, proposed: ArrayLike<number>, accepted: ArrayLike<number>): void {
    for (let i = 0; i < this.depth; i++) {
      const n = chances[i] ?? 0;
      if (n === 0) continue;
      const keep = Math.exp(-n / this.memory);
      this.#proposed[i] = this.#proposed[i]! * keep + ((proposed[i] ?? 0) / n) * (1 - keep);
      this.#accepted[i] = this.#accepted[i]! * keep + ((accepted[i] ?? 0) / n) * (1 - keep);
    }
  }

  /** Drafts expected at this position (0 the first) in a row-step that may draft there. */
  proposed(position: number): number {
    return this.#proposed[position] ?? 0;
  }

  /** Accepted drafts expected there; never more than at the position before. */
  accepted(position: number): number {
    let least = 1;
    for (let i = 0; i <= position; i++) least = Math.min(least, this.#accepted[i] ?? 0);
    return least;
  }
}
