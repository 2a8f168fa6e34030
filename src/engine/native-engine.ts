import type { Job } from "../runtime/actor.js";
import {
  type CacheSalt,
  type CreatedSequence,
  type DraftEngine,
  type KvCounts,
  type LaneLimits,
  type LaneRole,
  NO_SALT,
  type PrefixTierCounts,
  type Sampling,
  type SequenceHandle,
  type StepResult,
  type StepRow,
} from "./engine.js";
import {
  type EngineInfo,
  engineError,
  type NativeAddon,
  native,
  nativeAddon,
  type OperationProfile,
} from "./native-addon.js";
import type { PackedCache } from "./packed-cache.js";
import { packBatch, type ResultArrays, resultArrays, unpackResult } from "./packing.js";
import type { PrefixTier } from "./prefix-tier.js";

export type { EngineInfo, OperationProfile };

export interface EngineOptions {
  /** A GGUF file, a .safetensors file, or the directory of a safetensors model. */
  readonly path: string;
  /** Tokens of KV in the pool that all lanes share. */
  readonly kvTokens: number;
  /** How the pool keeps keys and values; "f16" if not given. */
  readonly kv?: "f16" | "bf16" | "int8";
  /** Tokens in a KV block. */
  readonly blockTokens?: number;
  /** Compute threads over all lanes of the process; 0: one a processor that the process may use. */
  readonly threads?: number;
  /** "pin": each to a processor of its own; "auto", if not given: where there are several memory nodes. */
  readonly affinity?: "auto" | "pin" | "none";
  /** Kernel family by name, or "auto". */
  readonly instructionSet?: string;
  /** Context limit in tokens; 0: the model's own. */
  readonly contextTokens?: number;
  /** Widens all matrices to f32: slow, and the reference of every other mode. */
  readonly exact?: boolean;
  /** Where packed weights are kept between starts; nowhere if absent. */
  readonly cache?: PackedCache;
  /** Where cached prefixes go that give way; nowhere if absent. */
  readonly tier?: PrefixTier;
}

/**
 * Loads a model into the process. Blocks the calling thread while it reads and repacks the weights, or finds them
 * packed in the cache. Any thread may
 * then open lanes by `info.id`. Throws the `model_*` errors, `out_of_memory` and `native_argument_invalid`.
 */
export function openEngine(options: EngineOptions): EngineInfo {
  return native((addon) =>
    addon.openEngine(
      options.path,
      options.instructionSet ?? "auto",
      options.kvTokens,
      options.blockTokens ?? 32,
      options.threads ?? 0,
      options.contextTokens ?? 0,
      options.exact ?? false,
      options.cache?.directory ?? "",
      options.cache?.bytes ?? 0,
      options.cache?.copy ?? false,
      options.kv ?? "f16",
      options.affinity ?? "auto",
      options.tier?.directory ?? "",
      options.tier?.bytes ?? 0,
    ),
  );
}

/** Forgets an engine; its memory goes when its last lane is closed. Idempotent. */
export function closeEngine(engine: number): void {
  native((addon) => addon.closeEngine(engine));
}

/** Counts of an engine's KV pool, from any thread. */
export function engineKv(engine: number): KvCounts {
  const counts = new Float64Array(8);
  native((addon) => addon.kv(engine, counts));
  const [totalBlocks = 0, freeBlocks = 0, cachedBlocks = 0, usedBlocks = 0, sequences = 0] = counts;
  const [prefixHits = 0, prefixMisses = 0, prefixEvictions = 0] = counts.subarray(5);
  return {
    totalBlocks,
    freeBlocks,
    cachedBlocks,
    usedBlocks,
    sequences,
    prefixHits,
    prefixMisses,
    prefixEvictions,
  };
}

/** Counts of an engine's second prefix tier. */
export function prefixTierCounts(engine: number): PrefixTierCounts {
  const counts = new Float64Array(6);
  native((addon) => addon.prefixTier(engine, counts));
  const [slots = 0, held = 0, read = 0, written = 0, dropped = 0, damaged = 0] = counts;
  return { slots, held, read, written, dropped, damaged };
}

/** Tells what computing a prompt's token takes, which reading blocks from the tier is compared with. */
export function setTokenTime(engine: number, ms: number): void {
  native((addon) => addon.setTokenTime(engine, ms * 1e6));
}

export interface LaneOptions {
  readonly engine: EngineInfo;
  /** Number that other lanes hand sequences over to. Opening it anew reclaims what its last owner left. */
  readonly lane: number;
  /** Decode lanes get cores first. */
  readonly role: LaneRole;
  readonly maxRows: number;
  readonly maxBatchTokens: number;
  /** Keeps where the time of each step went, for `profile()`; costs a clock reading or two a region. */
  readonly profile?: boolean;
  /** A draft model, of which a lane with the same number and limits is opened too. */
  readonly draft?: EngineInfo | undefined;
}

/** One lane of a native engine; belongs to the thread that opened it. */
export class NativeLane implements DraftEngine {
  readonly limits: LaneLimits;
  readonly draft: DraftEngine | undefined;
  readonly #addon: NativeAddon;
  readonly #engine: number;
  readonly #lane: number;
  readonly #results: ResultArrays;
  readonly #created = new Uint32Array(3);
  #batch: Int32Array;

  /** Throws `native_argument_invalid` when there is no such engine or a limit is out of range. */
  constructor(options: LaneOptions) {
    const { engine, maxRows, maxBatchTokens } = options;
    this.#addon = nativeAddon();
    this.#engine = engine.id;
    this.#lane = native((addon) =>
      addon.openLane(
        engine.id,
        options.lane,
        options.role === "decode",
        maxRows,
        maxBatchTokens,
        options.profile ?? false,
      ),
    );
    this.limits = {
      contextTokens: engine.contextTokens,
      vocabulary: engine.vocabulary,
      blockTokens: engine.blockTokens,
      maxRows,
      maxBatchTokens,
    };
    this.#results = resultArrays(maxRows, maxBatchTokens);
    this.#batch = new Int32Array(1 + 5 * maxRows + maxBatchTokens);
    const { draft, ...own } = options;
    this.draft = draft && new NativeLane({ ...own, engine: draft });
  }

  createSequence(
    prompt: Uint32Array,
    outputFrom: number,
    sampling: Sampling,
    salt: CacheSalt = NO_SALT,
    unsure = 0,
  ): CreatedSequence {
    const numbers = Float64Array.of(
      sampling.temperature,
      sampling.topK,
      sampling.topP,
      sampling.minP,
      sampling.repetitionPenalty,
      sampling.presencePenalty,
      sampling.frequencyPenalty,
      sampling.seed,
      Math.min(sampling.minTokens, 0xffff_ffff),
      sampling.logprobs,
    );
    const created = this.#created;
    this.#call((addon) =>
      addon.createSequence(
        this.#lane,
        prompt,
        outputFrom,
        numbers,
        Uint32Array.from(sampling.stopIds),
        Uint32Array.from(sampling.logitBias.keys()),
        Float32Array.from(sampling.logitBias.values()),
        created,
        Float64Array.from(salt),
        unsure,
      ),
    );
    return { handle: { index: created[0]!, epoch: created[1]! }, cachedTokens: created[2]! };
  }

  release(sequence: SequenceHandle): void {
    this.#call((addon) => addon.release(this.#lane, sequence.index, sequence.epoch));
  }

  handOver(sequence: SequenceHandle, toLane: number): void {
    this.#call((addon) => addon.handOver(this.#lane, sequence.index, sequence.epoch, toLane));
  }

  adopt(sequence: SequenceHandle): void {
    this.#call((addon) => addon.adopt(this.#lane, sequence.index, sequence.epoch));
  }

  releaseStranded(): void {
    this.#call((addon) => addon.releaseStranded(this.#lane));
  }

  cut(sequence: SequenceHandle, tokens: number): void {
    this.#call((addon) => addon.cut(this.#lane, sequence.index, sequence.epoch, tokens));
  }

  length(sequence: SequenceHandle): number {
    return this.#call((addon) => addon.length(this.#lane, sequence.index, sequence.epoch));
  }

  submit(rows: readonly StepRow[]): Job<StepResult> {
    const batch = packBatch(rows, this.#batch);
    this.#call((addon) => addon.submit(this.#lane, batch));
    return {
      finished: () => this.#call((addon) => addon.finished(this.#lane)),
      collect: () => {
        this.#call((addon) => addon.collect(this.#lane, this.#results.integers, this.#results.floats));
        return unpackResult(rows.length, this.#results);
      },
    };
  }

  kv(): KvCounts {
    return engineKv(this.#engine);
  }

  /**
   * Where the time of the last collected step went: its operations in the order of the network, whose times add up
   * to the step's `computeMs`. Throws `native_argument_invalid` unless the lane was opened with `profile`, and before
   * its first step.
   */
  profile(): OperationProfile[] {
    return this.#call((addon) => addon.profile(this.#lane));
  }

  /**
   * Natural-log probabilities of the whole vocabulary after each of `ids` from index `from` on, row by row. It
   * computes every position afresh in a sequence of its own; meant for tests and tools.
   */
  score(ids: Uint32Array, from = 0): Float32Array {
    const rows = Math.max(ids.length - from, 0);
    const out = new Float32Array(rows * this.limits.vocabulary);
    this.#call((addon) => addon.score(this.#lane, ids, from, out));
    return out;
  }

  close(): void {
    this.draft?.close();
    this.#call((addon) => addon.closeLane(this.#lane));
  }

  #call<R>(call: (addon: NativeAddon) => R): R {
    try {
      return call(this.#addon);
    } catch (error) {
      throw engineError(error);
    }
  }
}
