import type { SequenceHandle } from "../engine/engine.js";
import { PromptLookup } from "../policy/lookup.js";
import type { Holder } from "../policy/preemption.js";
import type { Held } from "./holding.js";
import { type MessageNamed, UNLIMITED } from "./messages.js";
import type { Carried } from "./token-batch.js";

export interface DraftingOptions {
  readonly maxDepth: number;
  readonly longestSuffix: number;
  readonly shortestSuffix: number;
  /** Earlier places compared in a look-up, at most. */
  readonly candidates: number;
}

/** A sequence in a decode lane. Its step's tokens (the pending one, then drafts) live in one reused buffer. */
export class DecodeRow implements Held, Holder {
  /** Output tokens drawn so far, over all attempts: the index of the next one. */
  produced: number;
  creditUpTo: number;
  /** Since when it has waited for credit, in milliseconds. */
  parkedSince: number | undefined;
  /** Prefill's tokens, until the lane's first message has repeated them: it may overtake prefill's own. */
  carried: Carried | undefined;
  leaving: (() => void) | undefined;
  /** Tokens in the KV. */
  length: number;
  /** Tokens at which the scheduler is told that there are more than it reserved KV for. */
  growAt: number;
  /** Drafts of the step in hand. */
  drafts = 0;
  readonly #lookup: PromptLookup | undefined;
  readonly #tokens: Uint32Array;
  /** The buffer's first n tokens, made once: rows are rebuilt every step. */
  readonly #views: readonly Uint32Array[];

  constructor(
    readonly journey: MessageNamed<"handoff">,
    readonly handle: SequenceHandle,
    prompt: Uint32Array | undefined,
    options: DraftingOptions,
  ) {
    const { ids, tokenLogprobs, topIds, topLogprobs } = journey;
    this.carried = { ids, tokenLogprobs, topIds, topLogprobs };
    this.creditUpTo = journey.creditUpTo;
    this.length = journey.promptTokens;
    this.growAt = journey.reservedTokens;
    this.produced = journey.promptTokens - journey.outputFrom + ids.length;
    this.#tokens = new Uint32Array(options.maxDepth + 1);
    this.#views = Array.from(this.#tokens, (_, i) => this.#tokens.subarray(0, i + 1));
    this.#tokens[0] = ids[ids.length - 1] as number;
    if (prompt && options.maxDepth > 0) {
      const capacity = journey.outputFrom + journey.maxTokens;
      const { longestSuffix, shortestSuffix, candidates } = options;
      this.#lookup = new PromptLookup(capacity, longestSuffix, shortestSuffix, candidates);
      for (const id of prompt) this.#lookup.push(id);
      for (const id of ids) this.#lookup.push(id);
    }
  }

  get offline(): boolean {
    return this.journey.class === 1;
  }

  get parked(): boolean {
    return this.parkedSince !== undefined;
  }

  get overdrawn(): boolean {
    return this.length > this.journey.reservedTokens;
  }

  /** Output tokens that may still be drawn for the reader. */
  get credit(): number {
    return this.creditUpTo === UNLIMITED ? Number.POSITIVE_INFINITY : this.creditUpTo - this.produced;
  }

  /** Takes a grant: output tokens that the reader takes, counted from index 0. */
  allow(upTo: number): void {
    this.creditUpTo = Math.max(this.creditUpTo, upTo);
    if (this.credit > 0) this.parkedSince = undefined;
  }

  /** The tokens of its next step: the pending one and up to `depth` drafts. */
  prepare(depth: number): Uint32Array {
    const most = Math.min(depth, this.credit - 1, this.journey.maxTokens - this.produced - 1);
    this.drafts = this.#lookup && most > 0 ? this.#lookup.draft(this.#tokens, 1, most) : 0;
    return this.#views[this.drafts] as Uint32Array;
  }

  /** Takes what a step drew. */
  accept(tokens: Int32Array): void {
    const { length } = tokens;
    if (this.#lookup) for (let i = 0; i < length; i++) this.#lookup.push(tokens[i] as number);
    this.#tokens[0] = tokens[length - 1] as number;
    this.carried = undefined;
    this.produced += length;
    this.length += length;
  }
}
