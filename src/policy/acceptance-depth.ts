/**
 * Depth by acceptance alone, blind to what a step costs and to how many share it: what is usual elsewhere, to compare
 * with. The rule is that of Hugging Face transformers' "heuristic" schedule of assistant tokens: 2 more after a step that
 * accepted every draft, 1 fewer after any other, never below 1.
 */
export class AcceptanceDepth {
  /** By whoever drafts: forgotten with it. */
  readonly #depths = new WeakMap<object, number>();

  constructor(readonly most: number) {}

  /** Drafts that `row` is to verify next. */
  of(row: object): number {
    return this.#depths.get(row) ?? Math.min(FIRST, this.most);
  }

  /** A step of `row` verified `drafts` and accepted so many of them. */
  observe(row: object, drafts: number, accepted: number): void {
    // Nothing was proposed: that says nothing about the depth.
    if (drafts === 0) return;
    const next = this.of(row) + (accepted === drafts ? MORE : -FEWER);
    this.#depths.set(row, Math.min(this.most, Math.max(1, next)));
  }
}

const FIRST = 5;
const MORE = 2;
const FEWER = 1;
