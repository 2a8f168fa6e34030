import type { SequenceHandle } from "../engine/engine.js";
import type { RowSurvival } from "../policy/depth.js";
import { type LaneDrafts, RowDrafts } from "../policy/drafting.js";
import type { Holder } from "../policy/preemption.js";
import type { Held } from "./holding.js";
import { type MessageNamed, UNLIMITED } from "./messages.js";
import type { Carried } from "./token-batch.js";

const NO_DRAFTS = new Float64Array(0);

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
  /** Makes its drafts; undefined when none are to be made. */
  readonly drafting: RowDrafts | undefined;
  readonly #tokens: Uint32Array;
  /** The buffer's first n tokens, made once: rows are rebuilt every step. */
  readonly #views: readonly Uint32Array[];

  constructor(
    readonly journey: MessageNamed<"handoff">,
    readonly handle: SequenceHandle,
    prompt: Uint32Array,
    drafts: LaneDrafts | undefined,
  ) {
    const { ids, tokenLogprobs, topIds, topLogprobs } = journey;
    this.carried = { ids, tokenLogprobs, topIds, topLogprobs };
    this.creditUpTo = journey.creditUpTo;
    this.length = journey.promptTokens;
    this.growAt = journey.reservedTokens;
    this.produced = journey.promptTokens - journey.outputFrom + ids.length;
    this.#tokens = new Uint32Array((drafts?.limits.maxDepth ?? 0) + 1);
    this.#views = Array.from(this.#tokens, (_, i) => this.#tokens.subarray(0, i + 1));
    this.#tokens[0] = ids[ids.length - 1] as number;
    if (drafts) {
      const { tenant, outputFrom, maxTokens, temperature } = journey;
      this.drafting = new RowDrafts(drafts, tenant, outputFrom + maxTokens, temperature > 0);
      this.drafting.read(prompt);
      this.drafting.accept(ids);
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

  /** Makes the drafts that its next step might verify, none below `least`; returns their survival, see `planDrafts`. */
  draft(least: number): RowSurvival {
    if (!this.drafting) return NO_DRAFTS;
    const most = Math.min(this.credit - 1, this.journey.maxTokens - this.produced - 1);
    this.drafting.draft(this.#tokens, 1, most, least);
    return this.drafting.outlook;
  }

  /** The tokens of its next step: the pending one, and the first `depth` of the drafts it made. */
  prepare(depth: number): Uint32Array {
    this.drafts = depth;
    return this.#views[depth] as Uint32Array;
  }

  /** Takes what a step drew. */
  accept(tokens: Int32Array): void {
    const { length } = tokens;
    this.drafting?.accept(tokens);
    this.#tokens[0] = tokens[length - 1] as number;
    this.carried = undefined;
    this.produced += length;
    this.length += length;
  }
}
