import { type DraftEngine, GREEDY, type Sampling, type SequenceHandle } from "../engine/engine.js";
import type { Journey } from "./messages.js";

const NOTHING = new Uint32Array(0);

/**
 * A request in the draft model: its text, and a sequence of the model's own KV that follows it when asked to. What the
 * model guessed stays in that KV until the text is known to go on otherwise. Belongs to a decode row; `close` gives the
 * KV back.
 */
export class DraftSequence {
  readonly #text: Uint32Array;
  #length = 0;
  #handle: SequenceHandle | undefined;
  /** Tokens of the text that are in its KV, and guesses that follow them there. */
  #fed = 0;
  #guessed = 0;
  /** All guesses; the last one is not in the KV. */
  readonly #guesses: number[] = [];
  readonly #outputFrom: number;
  readonly #sampling: Sampling;
  readonly #salt: readonly [number, number];

  constructor(
    readonly engine: DraftEngine,
    journey: Journey,
    /** Guesses ahead of the text, at most. */
    readonly mostGuesses: number,
  ) {
    // Beyond the model's context it guesses nothing.
    const most = Math.min(journey.outputFrom + journey.maxTokens, engine.limits.contextTokens);
    this.#text = new Uint32Array(most + 1);
    this.#outputFrom = journey.outputFrom;
    this.#salt = [journey.salt0, journey.salt1];
    // The same noise at the same position as the verifying model draws with: the more often both draw the same token.
    const { temperature, topK, topP, minP, seed } = journey;
    this.#sampling = { ...GREEDY, temperature, topK, topP, minP, seed, logprobs: 0 };
  }

  /** The text goes on with `tokens`; it is kept as far as the model's context goes. */
  read(tokens: ArrayLike<number>): void {
    const count = Math.min(tokens.length, this.#text.length - this.#length);
    for (let i = 0; i < count; i++) this.#text[this.#length++] = tokens[i]!;
  }

  /** Tokens that have to be computed before its next guess, one at least; too many where the model's context ends. */
  get lag(): number {
    if (this.#length + this.mostGuesses >= this.engine.limits.contextTokens) return Number.POSITIVE_INFINITY;
    return this.#length - this.#fed;
  }

  /** After `follow`, until `close`. */
  get handle(): SequenceHandle {
    if (!this.#handle) throw new Error("The sequence has not been opened.");
    return this.#handle;
  }

  /** Tokens in the KV. */
  get length(): number {
    return this.#fed + this.#guessed;
  }

  /** Opens the sequence if need be, and takes back what it guessed wrong. Throws what `createSequence` throws. */
  follow(): SequenceHandle {
    if (!this.#handle) {
      const text = this.#text.slice(0, this.#length);
      const from = Math.min(this.#outputFrom, text.length);
      const unsure = this.mostGuesses + 1;
      const created = this.engine.createSequence(text, from, this.#sampling, this.#salt, unsure);
      this.#handle = created.handle;
      this.#fed = created.cachedTokens;
      return created.handle;
    }
    const before = this.length;
    let kept = this.#fed;
    while (kept < before && this.#text[kept] === this.#guesses[kept - this.#fed]) kept++;
    // The text's last token is computed anew even if it had been guessed: the next guess is drawn behind it.
    kept = Math.min(kept, this.#length - 1);
    if (kept < before) this.engine.cut(this.#handle, kept);
    this.#fed = kept;
    this.#guessed = 0;
    this.#guesses.length = 0;
    return this.#handle;
  }

  /** What its next step computes, `most` tokens at most: text, or the last guess. Call `fed` when that is done. */
  next(most: number): Uint32Array {
    if (this.#guesses.length > 0) return Uint32Array.of(this.#guesses[this.#guesses.length - 1]!);
    return this.#handle ? this.#text.subarray(this.#fed, Math.min(this.#length, this.#fed + most)) : NOTHING;
  }

  /** A step has computed `count` tokens of `next`. */
  fed(count: number): void {
    if (this.#guesses.length > 0) this.#guessed += count;
    else this.#fed += count;
  }

  guess(token: number): void {
    this.#guesses.push(token);
  }

  /** Gives the KV back; it can be opened again. */
  close(): void {
    if (this.#handle) this.engine.release(this.#handle);
    this.#handle = undefined;
    this.#fed = 0;
    this.#guessed = 0;
    this.#guesses.length = 0;
  }
}
