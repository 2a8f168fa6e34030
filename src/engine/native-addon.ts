import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { ERROR_CODES, type ErrorCode, StreamServeError } from "../errors.js";
import type { PackedStrings } from "./packed-strings.js";

/** Values of a GGUF header: booleans arrive as a Uint8Array when in an array. */
export type MetadataValue =
  | boolean
  | number
  | bigint
  | string
  | readonly string[]
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array
  | BigUint64Array
  | BigInt64Array;

/** As the addon gives them: lists of strings packed. */
export type NativeMetadataValue = Exclude<MetadataValue, readonly string[]> | PackedStrings;

/** What build/Release/streamserve.node exports. Everything else in src/engine wraps it. */
export interface NativeAddon {
  readMetadata(path: string): {
    version: number;
    entries: [string, NativeMetadataValue, number][];
    tensors: [string, string, number[], number][];
  };
  openEngine(
    path: string,
    instructionSet: string,
    kvTokens: number,
    blockTokens: number,
    threads: number,
    contextTokens: number,
    exact: boolean,
    cacheDirectory: string,
    cacheBytes: number,
    copyWeights: boolean,
    kv: string,
    affinity: string,
    tierDirectory: string,
    tierBytes: number,
  ): EngineInfo;
  closeEngine(engine: number): void;
  /** Gives a number that is valid on this thread, as long as the thread lives. */
  openBytePairs(
    tokens: Uint8Array,
    tokenEnds: Uint32Array,
    merges: Uint8Array,
    mergeEnds: Uint32Array,
    apart: Uint8Array,
    apartEnds: Uint32Array,
  ): number;
  /** Of `count` words; gives how many ids were written. */
  encodeWords(
    pairs: number,
    text: Uint8Array,
    ends: Uint32Array,
    count: number,
    whole: boolean,
    ids: Uint32Array,
  ): number;
  /** A model whose tensors can be rounded; the number is valid on all threads. */
  openSource(path: string): number;
  closeSource(source: number): void;
  /** The whole tensor in another GGUF format; `importance`: one weight a column, or none. */
  quantise(
    source: number,
    tensor: string,
    format: number,
    importance: Float32Array,
    threads: number,
  ): Uint8Array;
  /** `out`: int8 and f32 multiply-adds and bytes read, a second. */
  measureCeilings(instructionSet: string, threads: number, readBytes: number, out: Float64Array): void;
  /** `out`: total, free, cached, used blocks, sequences, prefix blocks found, not found, evicted. */
  kv(engine: number, out: Float64Array): void;
  /** `out`: slots, held, read, written, dropped, damaged blocks of the prefix tier. */
  prefixTier(engine: number, out: Float64Array): void;
  /** What computing a prompt's token takes, in nanoseconds; 0: not known. */
  setTokenTime(engine: number, ns: number): void;
  /** Gives a number that is valid on this thread. */
  openLane(
    engine: number,
    lane: number,
    decode: boolean,
    maxRows: number,
    maxBatchTokens: number,
    profile: boolean,
  ): number;
  closeLane(lane: number): void;
  /** `sampling`: the ten numbers of `Sampling` in its order, without stop ids and bias. `out`: index, epoch, cached. */
  createSequence(
    lane: number,
    prompt: Uint32Array,
    outputFrom: number,
    sampling: Float64Array,
    stopIds: Uint32Array,
    biasIds: Uint32Array,
    biases: Float32Array,
    out: Uint32Array,
    salt: Float64Array,
    unsure: number,
  ): void;
  release(lane: number, index: number, epoch: number): void;
  handOver(lane: number, index: number, epoch: number, toLane: number): void;
  adopt(lane: number, index: number, epoch: number): void;
  releaseStranded(lane: number): void;
  length(lane: number, index: number, epoch: number): number;
  cut(lane: number, index: number, epoch: number, tokens: number): void;
  submit(lane: number, batch: Int32Array): void;
  finished(lane: number): boolean;
  collect(lane: number, integers: Int32Array, floats: Float32Array): void;
  profile(lane: number): OperationProfile[];
  score(lane: number, ids: Uint32Array, from: number, out: Float32Array): void;
}

/** An engine of this process, as `openEngine` gives it; plain data that any thread may use. */
export interface EngineInfo {
  readonly id: number;
  readonly architecture: string;
  readonly vocabulary: number;
  readonly contextTokens: number;
  readonly layers: number;
  readonly embedding: number;
  readonly feedForward: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly blockTokens: number;
  /** Bytes of packed weights and embeddings. */
  readonly weightBytes: number;
  /** "cache": found packed on disk; "stored": packed now and kept there; "packed": packed now, and not kept. */
  readonly weightsFrom: "cache" | "stored" | "packed";
  /** What people should know of how it was opened; "" for nothing. */
  readonly notice: string;
  /** How the pool keeps keys and values: "f16", "bf16" or "int8". */
  readonly kv: string;
  /** Bytes of the whole KV pool; pages are taken as they are first used. */
  readonly kvBytes: number;
  /** Kernel family in use. */
  readonly instructionSet: string;
  /** Compute threads that all lanes of the process share. */
  readonly threads: number;
  /** Where they run and shared memory lies, for people: "1 node, not pinned". */
  readonly placement: string;
}

/**
 * What an operation took of a step, and what for. Bytes count once a step and layer, however often caches serve them
 * again.
 */
export interface OperationProfile {
  /** Its name, for people: "gate, up". */
  readonly operation: string;
  /** Parallel regions of the step that it ran in: layers, mostly. */
  readonly regions: number;
  /** Wall time, all regions together. */
  readonly ms: number;
  /** Of the matrices it multiplies by, as they are packed. */
  readonly weightBytes: number;
  /** Keys and values read or written. */
  readonly kvBytes: number;
  /** Read and written between operations; most of them never leave the caches. */
  readonly activationBytes: number;
  /** Multiply-accumulates by the int8 kernels. */
  readonly int8Macs: number;
  readonly f32Macs: number;
}

/** The clone or the installed package: from dist/engine/ as from src/engine/. */
const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const ADDON_PATH = join(ROOT, "build/Release/streamserve.node");

let loaded: NativeAddon | undefined;

/**
 * The addon, loaded on first use by each thread. Throws `native_addon_missing` when it has not been built or
 * does not load on this machine.
 */
export function nativeAddon(): NativeAddon {
  if (loaded) return loaded;
  if (!existsSync(ADDON_PATH)) {
    throw new StreamServeError(
      "native_addon_missing",
      `The native engine has not been built: run "npm run build" in ${ROOT} (it needs make and g++), then start again.`,
      { path: ADDON_PATH },
    );
  }
  try {
    loaded = createRequire(import.meta.url)(ADDON_PATH) as NativeAddon;
  } catch (cause) {
    throw new StreamServeError(
      "native_addon_missing",
      `The native engine does not load (${cause instanceof Error ? cause.message : String(cause)}): run "npm run build" again in ${ROOT}, on this machine.`,
      { path: ADDON_PATH },
      { cause },
    );
  }
  return loaded;
}

function isErrorCode(code: unknown): code is ErrorCode {
  return typeof code === "string" && Object.hasOwn(ERROR_CODES, code);
}

/** Turns an error of the addon into a `StreamServeError` with the same code. */
export function engineError(error: unknown): StreamServeError {
  if (error instanceof StreamServeError) return error;
  const message = error instanceof Error ? error.message : String(error);
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return new StreamServeError(isErrorCode(code) ? code : "internal", message, {}, { cause: error });
}

/** Calls into the addon; what it throws comes out as a `StreamServeError`. */
export function native<R>(call: (addon: NativeAddon) => R): R {
  const addon = nativeAddon();
  try {
    return call(addon);
  } catch (error) {
    throw engineError(error);
  }
}
