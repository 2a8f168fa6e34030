import type { LaneEngine, Sampling, SequenceHandle } from "../engine/engine.js";
import type { Prefilling } from "../policy/chunking.js";
import type { Held } from "./holding.js";
import type { Journey, MessageNamed } from "./messages.js";
import { copyPrompt, readSampling } from "./prompt-region.js";

/** A prompt on its way through a prefill lane, with its own copy of the tokens. */
export class PrefillPrompt implements Prefilling, Held {
  readonly tokens: Uint32Array;
  readonly sampling: Sampling;
  handle: SequenceHandle | undefined;
  cachedTokens = 0;
  /** Tokens whose KV is there. */
  computed = 0;
  leaving: (() => void) | undefined;

  constructor(
    readonly journey: Journey,
    /** The region that the journey names. */
    region: Uint8Array,
    readonly since: number,
    /** What the router expects: tokens that are in the cache, and when the first token is due. */
    readonly expects: { readonly cached: number; readonly dueAt: number },
    /** It is to be decoded here too. */
    readonly keep: boolean,
  ) {
    this.tokens = copyPrompt(journey, region);
    this.sampling = readSampling(journey, region);
  }

  get remaining(): number {
    return this.tokens.length - this.computed;
  }

  /** Tokens that are still to be computed, as far as that is known. */
  get expected(): number {
    return this.handle ? this.remaining : Math.max(1, this.remaining - this.expects.cached);
  }

  get dueAt(): number {
    return this.expects.dueAt;
  }

  get offline(): boolean {
    return this.journey.class === 1;
  }

  /** Output index of the first token that this prefill draws. */
  get firstIndex(): number {
    return this.journey.promptTokens - this.journey.outputFrom;
  }

  /** Its sequence, made now if there is none; throws what `createSequence` throws. */
  open(engine: LaneEngine): SequenceHandle {
    if (this.handle) return this.handle;
    const created = engine.createSequence(this.tokens, this.journey.outputFrom, this.sampling, [
      this.journey.salt0,
      this.journey.salt1,
    ]);
    this.handle = created.handle;
    this.cachedTokens = created.cachedTokens;
    this.computed = created.cachedTokens;
    return created.handle;
  }

  /** Gives its sequence back; it can be opened again. */
  close(engine: LaneEngine): void {
    if (this.handle) engine.release(this.handle);
    this.handle = undefined;
    this.computed = 0;
  }

  /** The message that takes it to the decode lane, with what its last chunk drew. */
  handOff(
    handle: SequenceHandle,
    drawn: {
      readonly tokens: Int32Array;
      readonly logprobs: Float32Array;
      readonly topIds: Int32Array;
      readonly topLogprobs: Float32Array;
    },
  ): MessageNamed<"handoff"> {
    return {
      ...this.journey,
      type: "handoff",
      handle: handle.index,
      epoch: handle.epoch,
      moved: this.keep ? 1 : 0,
      cachedTokens: this.cachedTokens,
      ids: Uint32Array.from(drawn.tokens),
      tokenLogprobs: drawn.logprobs,
      topIds: Uint32Array.from(drawn.topIds),
      topLogprobs: drawn.topLogprobs,
    };
  }
}
