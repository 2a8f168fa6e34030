import type { Generation } from "./generation.js";

/**
 * Gives credit back for tokens that a reader has taken, in portions: one message to the actors for many tokens.
 */
export class Grants {
  readonly #portion: number;
  #generation: Pick<Generation, "grant"> | undefined;
  #owed = 0;

  /** `window`: tokens that may be on their way to the reader. */
  constructor(window: number) {
    // A quarter keeps the lanes busy while a portion travels.
    this.#portion = Math.max(1, Math.floor(window / 4));
  }

  /** Says whom to grant to; what was taken before is kept for it. */
  attach(generation: Pick<Generation, "grant">): void {
    this.#generation = generation;
    this.#settle();
  }

  taken(tokens: number): void {
    this.#owed += tokens;
    this.#settle();
  }

  #settle(): void {
    if (this.#generation === undefined || this.#owed < this.#portion) return;
    const owed = this.#owed;
    this.#owed = 0;
    this.#generation.grant(owed);
  }
}
