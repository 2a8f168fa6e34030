import type { DraftEngine, SequenceHandle } from "../engine/engine.js";
import type { RowSurvival } from "../policy/depth.js";
import { type LaneDrafts, RowDrafts } from "../policy/drafting.js";
import type { Holder } from "../policy/preemption.js";
import { DraftSequence } from "./draft-sequence.js";
import type { Held } from "./holding.js";
import { type MessageNamed, UNLIMITED } from "./messages.js";
import type { Carried } from "./token-batch.js";

const NO_DRAFTS = new Float64Array(0);
const NOTHING = new Uint32Array(0);

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
  /** Itself in the draft model; undefined without one. */
  readonly sequence: DraftSequence | undefined;
  /** What it has drawn in this attempt, where that may be handed over: in a prefill lane that keeps it. */
  drawn: number[] | undefined;
  /** Prompt tokens of the step in hand: more than 0 while its prompt is computed here. */
  chunk = 0;
  /** The prompt's tokens that are not in the KV, of one that came straight here. */
  #rest: Uint32Array;
  readonly #tokens: Uint32Array;
  /** The buffer's first n tokens, made once: rows are rebuilt every step. */
  readonly #views: readonly Uint32Array[];

  constructor(
    readonly journey: MessageNamed<"handoff">,
    readonly handle: SequenceHandle,
    prompt: Uint32Array,
    drafts: LaneDrafts | undefined,
    /** What is to be computed of its prompt: none when a prefill lane has done it. */
    rest: Uint32Array = NOTHING,
    draft?: DraftEngine,
  ) {
    this.#rest = rest;
    const { ids, tokenLogprobs, topIds, topLogprobs } = journey;
    if (ids.length > 0) this.carried = { ids, tokenLogprobs, topIds, topLogprobs };
    this.creditUpTo = journey.creditUpTo;
    this.length = journey.promptTokens - rest.length + Math.max(0, ids.length - 1);
    this.growAt = journey.reservedTokens;
    this.produced = journey.promptTokens - journey.outputFrom + ids.length;
    this.#tokens = new Uint32Array((drafts?.limits.maxDepth ?? 0) + 1);
    this.#views = Array.from(this.#tokens, (_, i) => this.#tokens.subarray(0, i + 1));
    if (ids.length > 0) this.#tokens[0] = ids[ids.length - 1] as number;
    if (drafts) {
      const { tenant, outputFrom, maxTokens, temperature } = journey;
      this.drafting = new RowDrafts(drafts, tenant, outputFrom + maxTokens, temperature > 0);
      this.drafting.read(prompt);
      this.drafting.accept(ids);
      if (draft) {
        this.sequence = new DraftSequence(draft, journey, drafts.limits.maxDepth);
        this.sequence.read(prompt);
        this.sequence.read(ids);
      }
    }
  }

  get offline(): boolean {
    return this.journey.class === 1;
  }

  /** True while its prompt is computed here. The first token is drawn then whatever the reader's credit. */
  get prompting(): boolean {
    return this.#rest.length > 0;
  }

  /** Tokens of its prompt that are still to be computed here. */
  get remaining(): number {
    return this.#rest.length;
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
    if (!this.drafting || this.prompting) return NO_DRAFTS;
    this.drafting.draft(this.#tokens, 1, this.mostDrafts, least);
    return this.drafting.outlook;
  }

  /** Survival of the drafts that it has. */
  get outlook(): RowSurvival {
    return this.drafting && !this.prompting ? this.drafting.outlook : NO_DRAFTS;
  }

  /** Drafts that its reader and its length leave room for. */
  get mostDrafts(): number {
    return Math.min(this.credit - 1, this.journey.maxTokens - this.produced - 1);
  }

  /** See `RowDrafts.replace`. */
  replaceDraft(index: number, token: number, confidence: number): number {
    return this.drafting?.replace(index, token, confidence, this.#tokens, 1) ?? 0;
  }

  /** Gives back what its drafts were made with. Idempotent. */
  close(): void {
    this.drafting?.close();
    this.sequence?.close();
  }

  /** Takes what it can of a step's `spare` tokens, beyond the one that each row has, for its prompt; returns how many. */
  takeChunk(spare: number): number {
    this.chunk = Math.min(this.#rest.length, 1 + spare);
    return Math.max(0, this.chunk - 1);
  }

  /** False in a step whose chunk leaves more of the prompt to compute: nothing is drawn then. */
  get samples(): boolean {
    return this.chunk === this.#rest.length;
  }

  /**
   * The tokens of its next step: the pending one and the first `depth` of the drafts it made, or the next chunk of a
   * prompt that is computed here.
   */
  prepare(depth: number): Uint32Array {
    this.drafts = this.chunk > 0 ? 0 : depth;
    if (this.chunk > 0) return this.#rest.subarray(0, this.chunk);
    return this.#views[depth] as Uint32Array;
  }

  /** Takes what a step drew; nothing when it did not sample. */
  accept(tokens: Int32Array): void {
    const { length } = tokens;
    if (this.drawn) for (const id of tokens) this.drawn.push(id);
    const { chunk } = this;
    this.#rest = this.#rest.subarray(chunk);
    this.chunk = 0;
    this.length += chunk > 0 ? chunk : length;
    if (length === 0) return;
    this.drafting?.accept(tokens);
    this.sequence?.read(tokens);
    this.#tokens[0] = tokens[length - 1] as number;
    this.carried = undefined;
    this.produced += length;
  }
}
