import type { TokenLikelihood, TokenLogprob } from "../client/text-generation.js";
import type { TextCodec } from "../model/model.js";
import type { DeliveredTokens } from "./generation.js";
import { StopMatcher } from "./stop-strings.js";

/** A token's log-probabilities and where in the output text it begins, in UTF-16 units. */
export interface PlacedLogprob extends TokenLogprob {
  readonly offset: number;
}

/** What new tokens added to the output that may be shown. */
export interface AssembledText {
  readonly text: string;
  readonly logprobs: readonly PlacedLogprob[];
  /** Tokens taken: all of them, or those up to the one that completed a stop string. */
  readonly tokens: number;
}

/**
 * Turns tokens into text. Characters that are not complete and text that may become a stop string are held back;
 * a token's log-probabilities appear with the first of its text. Bytes that are no UTF-8 become U+FFFD.
 */
export class TextAssembler {
  readonly #codec: TextCodec;
  readonly #stops: StopMatcher;
  readonly #silent: ReadonlySet<number>;
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  #held = "";
  #shown = 0;
  #pending: PlacedLogprob[] = [];
  #stopped = false;

  /** `stopIds`: tokens that end the output; they show neither text nor log-probabilities. */
  constructor(codec: TextCodec, stops: readonly string[], stopIds: readonly number[]) {
    this.#codec = codec;
    this.#stops = new StopMatcher(stops);
    this.#silent = new Set(stopIds);
  }

  /** True once a stop string is complete; what comes after is ignored. */
  get stopped(): boolean {
    return this.#stopped;
  }

  push(delivered: DeliveredTokens): AssembledText {
    let taken = 0;
    while (taken < delivered.ids.length && !this.#stopped) {
      const id = delivered.ids[taken]!;
      if (!this.#silent.has(id)) this.#take(id, delivered, taken);
      taken++;
    }
    return this.#show(this.#stopped ? 0 : this.#stops.undecided, taken);
  }

  /** The end of the output: what was held back is shown; half a character becomes U+FFFD. */
  finish(): AssembledText {
    if (this.#stopped) return { text: "", logprobs: [], tokens: 0 };
    this.#append(this.#decoder.decode());
    const rest = this.#show(0, 0);
    const logprobs = [...rest.logprobs, ...this.#pending];
    this.#pending = [];
    return { ...rest, logprobs };
  }

  #take(id: number, delivered: DeliveredTokens, place: number): void {
    if (delivered.logprobs.length > 0) {
      this.#pending.push(this.#logprob(id, delivered, place, this.#shown + this.#held.length));
    }
    this.#append(this.#decoder.decode(this.#codec.tokenBytes(id), { stream: true }));
  }

  #append(text: string): void {
    this.#held += text;
    const cut = this.#stops.push(text);
    if (cut < 0) return;
    this.#stopped = true;
    this.#held = this.#held.slice(0, cut - this.#shown);
    this.#pending = this.#pending.filter(({ offset }) => offset < cut);
  }

  #show(undecided: number, tokens: number): AssembledText {
    const text = this.#held.slice(0, this.#held.length - undecided);
    this.#held = this.#held.slice(text.length);
    this.#shown += text.length;
    const ready = this.#pending.findIndex(({ offset }) => offset >= this.#shown);
    const logprobs = this.#pending.splice(0, ready < 0 ? this.#pending.length : ready);
    return { text, logprobs, tokens };
  }

  #logprob(id: number, delivered: DeliveredTokens, place: number, offset: number): PlacedLogprob {
    const width = delivered.topIds.length / delivered.ids.length;
    const top = Array.from({ length: width }, (_, rank) =>
      this.#likelihood(delivered.topIds[place * width + rank]!, delivered.topLogprobs[place * width + rank]!),
    );
    return { ...this.#likelihood(id, delivered.logprobs[place]!), top, offset };
  }

  #likelihood(id: number, logprob: number): TokenLikelihood {
    return { token: this.#codec.tokenText(id), logprob, bytes: [...this.#codec.tokenBytes(id)] };
  }
}
