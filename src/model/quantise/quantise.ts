import { rename, rm, stat, statfs } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { type MetadataValue, readMetadata } from "../../engine/metadata.js";
import { closeEngine, openEngine } from "../../engine/native-engine.js";
import { isPackedStrings, unpackStrings } from "../../engine/packed-strings.js";
import { QUANTISED_FORMATS, type QuantisedFormat, Quantiser } from "../../engine/quantiser.js";
import { StreamServeError } from "../../errors.js";
import { readModelMetadata } from "../model-metadata.js";
import { type GgufEntry, GgufWriter, TYPE } from "./gguf-writer.js";
import { planTensors, type TensorPlan } from "./plan.js";

/** A model written anew as a GGUF file, its matrices rounded to a format of fewer bits. */

export interface QuantiseOptions {
  /** A GGUF file, a .safetensors file or the directory of a safetensors model. */
  readonly source: string;
  readonly out: string;
  readonly format: QuantisedFormat;
  /** Of embeddings and head; by default 8 bits where `format` has fewer. */
  readonly head?: QuantisedFormat;
  readonly threads: number;
  /** Rounds again what is already rounded. */
  readonly requantise?: boolean;
  /** Replaces `out` if it is there. */
  readonly overwrite?: boolean;
  /** Called before the first tensor and after each. */
  readonly progress?: (doneBytes: number, totalBytes: number) => void;
  readonly signal?: AbortSignal;
}

/** KV for the file's trial run, in tokens. */
const TRIAL_TOKENS = 64;
const FLOATS: ReadonlySet<string> = new Set(["F32", "F16", "BF16"]);

/**
 * Writes `out`, whole or not at all, and has the engine open it before it gets its name. Throws `invalid_parameter` for
 * an `out` that is there or is the source itself, `model_format_unsupported` for a source that is rounded already, `disk_full`, `cancelled`,
 * and what reading the source throws.
 */
export async function quantise(options: QuantiseOptions): Promise<{ readonly bytes: number }> {
  const { source, format, threads, signal } = options;
  const out = resolve(options.out);
  await requireFree(out, source, options.overwrite ?? false);
  const header = readMetadata(source);
  const rounded = header.tensors.find((tensor) => !FLOATS.has(tensor.format));
  const exact = QUANTISED_FORMATS[format].blockElements === 1;
  if (rounded !== undefined && !(options.requantise ?? false) && !exact) {
    throw new StreamServeError(
      "model_format_unsupported",
      `${source} is rounded already (${rounded.name} is ${rounded.format}) and would lose twice: take the model in F32, ` +
        "F16 or BF16, or add --requantize.",
      { tensor: rounded.name, format: rounded.format },
    );
  }
  const tensors = planTensors(header, { format, head: options.head ?? (exact ? format : "q8_0") });
  const total = tensors.reduce((sum, { bytes }) => sum + bytes, 0);
  await requireSpace(out, total);
  const entries = await entriesOf(source, header.types, format);
  const temporary = `${out}.${process.pid}.partial`;
  const quantiser = new Quantiser(source, threads);
  try {
    await write(temporary, entries, tensors, quantiser, options, total);
    closeEngine(openEngine({ path: temporary, kvTokens: TRIAL_TOKENS, threads }).id);
    if (signal?.aborted) throw cancelled();
    await rename(temporary, out);
    return { bytes: (await stat(out)).size };
  } catch (error) {
    throw diskError(error, out);
  } finally {
    quantiser.close();
    await rm(temporary, { force: true });
  }
}

async function write(
  path: string,
  entries: readonly GgufEntry[],
  tensors: readonly TensorPlan[],
  quantiser: Quantiser,
  { progress, signal }: QuantiseOptions,
  total: number,
): Promise<void> {
  const writer = await GgufWriter.create(path, entries, tensors);
  try {
    let done = 0;
    progress?.(done, total);
    for (const { name, target, norm, bytes } of tensors) {
      if (signal?.aborted) throw cancelled();
      await writer.tensor(quantiser.tensor(name, target, importance(quantiser, norm)));
      done += bytes;
      progress?.(done, total);
      // Signals are heard between tensors alone.
      await new Promise(setImmediate);
    }
    await writer.finish();
  } catch (error) {
    await writer.abandon().catch(() => undefined);
    throw error;
  }
}

/** A column of a matrix counts by the square of what the norm before it multiplies the column's inputs by. */
function importance(quantiser: Quantiser, norm: string | undefined): Float32Array {
  if (norm === undefined) return new Float32Array();
  const bytes = quantiser.tensor(norm, "f32");
  const weights = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  // Never nothing: a column that the norm mutes would be free to be anything.
  return weights.map((weight) => weight * weight + 1e-6);
}

async function entriesOf(
  source: string,
  types: ReadonlyMap<string, number>,
  format: QuantisedFormat,
): Promise<readonly GgufEntry[]> {
  const metadata = new Map<string, MetadataValue>();
  for (const [key, value] of await readModelMetadata(source)) {
    metadata.set(key, isPackedStrings(value) ? unpackStrings(value) : value);
  }
  metadata.set("general.file_type", QUANTISED_FORMATS[format].fileType);
  metadata.set("general.quantization_version", 2);
  metadata.delete("general.alignment");
  return [...metadata].map(([key, value]) => ({ key, value, type: types.get(key) ?? TYPE.u32 }));
}

async function requireFree(out: string, source: string, overwrite: boolean): Promise<void> {
  const found = await stat(out).catch(() => undefined);
  const from = await stat(source).catch(() => undefined);
  if (found !== undefined && found.dev === from?.dev && found.ino === from.ino) {
    throw new StreamServeError("invalid_parameter", `${out} is the model itself: name another file.`, {
      out,
    });
  }
  if (found !== undefined && !(overwrite && found.isFile())) {
    const remedy = found.isFile() ? "add --force to replace it, or name another file" : "name a file";
    throw new StreamServeError("invalid_parameter", `${out} is there already: ${remedy}.`, { out });
  }
  const directory = await stat(dirname(out)).catch(() => undefined);
  if (!directory?.isDirectory()) {
    throw new StreamServeError("invalid_parameter", `There is no directory ${dirname(out)}: make it first.`, {
      out,
    });
  }
}

async function requireSpace(out: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(dirname(out));
  if (bavail * bsize < bytes) throw full(out, bytes, bavail * bsize);
}

function full(out: string, neededBytes: number, freeBytes: number): StreamServeError {
  const megabytes = Math.ceil(neededBytes / 1e6);
  const sentence = `The disk of ${out} has too little room for ${megabytes} MB: make room, or name a file elsewhere.`;
  return new StreamServeError("disk_full", sentence, { neededBytes, freeBytes });
}

function diskError(error: unknown, out: string): unknown {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return code === "ENOSPC" || code === "EDQUOT" ? full(out, 0, 0) : error;
}

function cancelled(): StreamServeError {
  return new StreamServeError("cancelled", "Cancelled: nothing was written.");
}
