import type { Job } from "../runtime/actor.js";

/**
 * The one operation of the engine: a step over a ragged batch. Prefill, decode and verification of drafts
 * are the same step with different rows. `NativeLane` (native-engine.ts) and `SimulatedLane`
 * (simulated-engine.ts) implement it.
 */

/** Names a sequence of a KV pool; `epoch` catches handles that outlived their sequence. */
export interface SequenceHandle {
  readonly index: number;
  readonly epoch: number;
}

/** How to draw the next token. Defaults leave the model's distribution as it is. */
export interface Sampling {
  /** 0: greedy. */
  readonly temperature: number;
  /** Keep the k likeliest; 0: all. */
  readonly topK: number;
  /** Keep the smallest set whose probability reaches this; 1: all. */
  readonly topP: number;
  /** Keep tokens at least this share as likely as the likeliest; 0: all. */
  readonly minP: number;
  /** Divides (positive) or multiplies (negative) logits of tokens in prompt or output; 1: off. */
  readonly repetitionPenalty: number;
  /** Subtracted once from logits of tokens already in the output. */
  readonly presencePenalty: number;
  /** Subtracted per occurrence in the output. */
  readonly frequencyPenalty: number;
  /** Noise is a function of (seed, position) alone: see docs/decisions. 53 bits. */
  readonly seed: number;
  /** Token id -> bias added to its logit. */
  readonly logitBias: ReadonlyMap<number, number>;
  /** Tokens that end the sequence when drawn. */
  readonly stopIds: readonly number[];
  /** Stop ids are not drawn before this many output tokens; `ignore_eos` sets it to the largest value. */
  readonly minTokens: number;
  /** Log-probabilities to report: -1 none, 0 the drawn token's, n also the n likeliest (most 20). */
  readonly logprobs: number;
}

export const GREEDY: Sampling = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  seed: 0,
  logitBias: new Map(),
  stopIds: [],
  minTokens: 0,
  logprobs: -1,
};

export interface StepRow {
  readonly sequence: SequenceHandle;
  /**
   * Tokens to append: a prompt chunk, or the pending token followed by drafts. They take the positions after
   * the sequence's present length.
   */
  readonly tokens: ArrayLike<number>;
  /** How many of the last tokens are drafts to verify; 0 in prefill and plain decode. */
  readonly drafts: number;
  /** False for a prompt chunk that is not the last: nothing is drawn. */
  readonly sample: boolean;
}

export interface RowResult {
  /** Tokens drawn: accepted drafts + 1; empty when the row did not sample. The last is not in the KV yet. */
  readonly tokens: Int32Array;
  /** Drafts that held. */
  readonly accepted: number;
  /** True when the last token drawn is a stop id. */
  readonly stopped: boolean;
  /** Natural-log probability of each token drawn, after penalties, bias and temperature 1; empty unless asked for. */
  readonly logprobs: Float32Array;
  /** The likeliest tokens at each position: `top` ids and log-probabilities a token, flattened. */
  readonly topIds: Int32Array;
  readonly topLogprobs: Float32Array;
}

export interface StepResult {
  /** One a row of the batch, in its order. */
  readonly rows: readonly RowResult[];
  /** Time the step computed, in milliseconds, from its first kernel to its last. */
  readonly computeMs: number;
  /** Time it waited for cores, in milliseconds. */
  readonly waitMs: number;
  /** Of `computeMs`, how long lanes of the other kind computed too and had cores of their own, in milliseconds. */
  readonly sharedMs: number;
}

/** Counts of a KV pool. free + cached + used = total. */
export interface KvCounts {
  readonly totalBlocks: number;
  /** Blocks that nobody needs: never written, or evicted. */
  readonly freeBlocks: number;
  /** Blocks kept for their prefix alone; they give way when free ones run out. */
  readonly cachedBlocks: number;
  /** Blocks held by live sequences. */
  readonly usedBlocks: number;
  readonly sequences: number;
  /** Whole prompt blocks asked for by new sequences, ever: found in the prefix cache, and not found. */
  readonly prefixHits: number;
  readonly prefixMisses: number;
  /** Cached blocks that gave way, ever. */
  readonly prefixEvictions: number;
}

/** Blocks of an engine's second prefix tier; all 0 without one. */
export interface PrefixTierCounts {
  readonly slots: number;
  readonly held: number;
  readonly read: number;
  readonly written: number;
  /** Not written: more gave way than could be written meanwhile, or the disk refuses. */
  readonly dropped: number;
  /** Found damaged, and not used. */
  readonly damaged: number;
}

/**
 * Keeps prefixes apart: sequences share cached blocks only with those of the same salt, so that nobody learns
 * from the time of an answer what others have asked. Two words of 52 bits; NO_SALT shares with all others that
 * have none.
 */
export type CacheSalt = readonly [number, number];
export const NO_SALT: CacheSalt = [0, 0];

export interface LaneLimits {
  readonly contextTokens: number;
  readonly vocabulary: number;
  /** Tokens in a KV block. */
  readonly blockTokens: number;
  /** Most rows in one step. */
  readonly maxRows: number;
  /** Most new tokens in one step, over all rows. */
  readonly maxBatchTokens: number;
}

export interface CreatedSequence {
  readonly handle: SequenceHandle;
  /** Leading prompt tokens whose KV was found in the prefix cache: prefill starts after them. */
  readonly cachedTokens: number;
}

/** One lane's face of the engine. A sequence belongs to exactly one lane at a time. */
export interface LaneEngine {
  readonly limits: LaneLimits;
  /**
   * A new sequence of this lane. Nothing is computed yet; cached prefix blocks are shared, at most up to the
   * token before the last. `prompt` may end in output tokens of an interrupted request: `outputFrom` is the
   * index of the first of them (the prompt's length for a new request).
   * Throws `native_argument_invalid` for ids outside the vocabulary or a prompt beyond the context.
   */
  createSequence(
    prompt: Uint32Array,
    outputFrom: number,
    sampling: Sampling,
    salt?: CacheSalt,
  ): CreatedSequence;
  /** Gives the sequence's blocks back (full ones stay in the prefix cache). Stale handles are ignored. */
  release(sequence: SequenceHandle): void;
  /** Moves a sequence to another lane of the same pool; no KV is copied. Throws `stale_handle`. */
  handOver(sequence: SequenceHandle, toLane: number): void;
  /** Takes a sequence that was handed to this lane; throws `stale_handle` if it was not, or is gone. */
  adopt(sequence: SequenceHandle): void;
  /**
   * Gives back what was handed to this lane by lanes that have been opened anew since, and what it has not adopted. A
   * lane may die between `handOver` and its message, so nobody may ever adopt these; call it when all messages of such a
   * lane have been read, or accept that a message still under way finds its sequence gone.
   */
  releaseStranded(): void;
  /** Tokens of the sequence in the KV. */
  length(sequence: SequenceHandle): number;
  /**
   * Starts a step; at most one at a time. Throws `kv_exhausted` (nothing changed) when the pool has too few
   * blocks, `stale_handle`, or `native_argument_invalid`. After it, each row's sequence holds its new tokens up
   * to the last accepted one. A step that fails when it is collected leaves its sequences as they were.
   */
  submit(rows: readonly StepRow[]): Job<StepResult>;
  kv(): KvCounts;
  /** A draft model's lane for the sequences of this one, opened and closed with it, if there is one. */
  readonly draft?: DraftEngine | undefined;
  /** Waits for a running step, gives back all sequences of this lane. Idempotent. */
  close(): void;
}

/** A lane of a draft model: its sequences run ahead of what is known, and are taken back. */
export interface DraftEngine extends LaneEngine {
  /** As `LaneEngine`'s; the last `unsure` tokens of the sequence can be cut, and are in no cached prefix meanwhile. */
  createSequence(
    prompt: Uint32Array,
    outputFrom: number,
    sampling: Sampling,
    salt?: CacheSalt,
    unsure?: number,
  ): CreatedSequence;
  /**
   * Takes back all but the first `tokens` tokens of a sequence. Throws `stale_handle`, or `native_argument_invalid`
   * when it holds fewer or these are not unsure.
   */
  cut(sequence: SequenceHandle, tokens: number): void;
}

export type LaneRole = "prefill" | "decode";
