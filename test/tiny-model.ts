import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type GgufTensor, type GgufValue, ggufFile, type TensorFormat } from "./gguf-file.js";

/** A Llama of a few thousand random weights: quick to load, and real in every other way. */

export const TINY = {
  vocabulary: 96,
  embedding: 64,
  feedForward: 128,
  heads: 4,
  kvHeads: 2,
  layers: 2,
  context: 512,
} as const;

const WIDE = { embedding: 256, feedForward: 512 } as const;

/** Numbers from -1 to 1, the same for the same seed (xorshift). */
function noise(seed: number): () => number {
  let state = seed * 2654435761 + 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state / 2 ** 31;
  };
}

const word = new DataView(new ArrayBuffer(4));

/** The nearest half; values are between 2^-14 and 1 in size, or 0. */
function half(value: number): number {
  if (value === 0) return 0;
  word.setFloat32(0, value);
  const bits = word.getUint32(0);
  const exponent = ((bits >>> 23) & 255) - 112;
  const rounded = (exponent << 10) + ((bits >>> 13) & 1023) + ((bits >>> 12) & 1);
  return exponent <= 0 ? 0 : ((bits >>> 16) & 0x8000) | rounded;
}

/** Blocks of the quantised formats: elements, bytes, and the part of the largest weight that one step of d is. */
const BLOCKS = {
  Q8_0: { elements: 32, bytes: 34, steps: 127 },
  Q4_0: { elements: 32, bytes: 18, steps: 8 },
  Q4_1: { elements: 32, bytes: 20, steps: 8 },
  Q5_0: { elements: 32, bytes: 22, steps: 16 },
  Q5_1: { elements: 32, bytes: 24, steps: 16 },
  IQ4_NL: { elements: 32, bytes: 18, steps: 127 },
  Q2_K: { elements: 256, bytes: 84, steps: 1 },
  // Times scales of up to 63.
  Q4_K: { elements: 256, bytes: 144, steps: 8 * 48 },
  Q5_K: { elements: 256, bytes: 176, steps: 16 * 48 },
  // Times scales of up to 23.
  Q6_K: { elements: 256, bytes: 210, steps: 32 * 16 },
} as const;
type BlockFormat = keyof typeof BLOCKS;

/** A block of random quants, scaled so that weights are about as large as those of the float formats. */
function encodeBlock(format: BlockFormat, next: () => number, to: DataView): void {
  const { steps } = BLOCKS[format];
  const scale = ((0.5 + 0.5 * Math.abs(next())) * 0.15) / steps;
  for (let at = 0; at < to.byteLength; at++) to.setUint8(at, Math.abs(next()) * 256);
  if (format === "Q6_K") {
    for (let at = 192; at < 208; at++) to.setInt8(at, (8 + Math.abs(next()) * 16) * Math.sign(next()));
    to.setUint16(208, half(scale), true);
    return;
  }
  to.setUint16(0, half(scale), true);
  if (format === "Q4_1" || format === "Q5_1") to.setUint16(2, half(scale * (next() - steps)), true);
  if (format === "Q4_K" || format === "Q5_K") {
    // The same number scales quants and minimum of a group, so that its weights lie around zero.
    to.setUint16(2, half(scale * (format === "Q4_K" ? 7.5 : 15.5)), true);
    for (let i = 0; i < 4; i++) {
      to.setUint8(8 + i, to.getUint8(4 + i));
      to.setUint8(12 + i, (to.getUint8(12 + i) >> 4) * 17);
    }
  }
}

function encode(format: TensorFormat, elements: number, next: () => number, scale: number): Uint8Array {
  if (format === "F32")
    return new Uint8Array(Float32Array.from({ length: elements }, () => next() * scale).buffer);
  if (format === "F16") {
    return new Uint8Array(Uint16Array.from({ length: elements }, () => half(next() * scale)).buffer);
  }
  if (format === "BF16") {
    return new Uint8Array(
      Uint16Array.from({ length: elements }, () => {
        word.setFloat32(0, next() * scale);
        return word.getUint16(0);
      }).buffer,
    );
  }
  const { elements: inBlock, bytes: size } = BLOCKS[format];
  const bytes = new Uint8Array((elements / inBlock) * size);
  for (let at = 0; at < bytes.length; at += size)
    encodeBlock(format, next, new DataView(bytes.buffer, at, size));
  return bytes;
}

export interface TinyOptions {
  readonly format?: TensorFormat;
  /** Formats of some matrices, by name: the first that matches counts. */
  readonly formats?: readonly (readonly [RegExp, TensorFormat])[];
  /** Rows of 256 and 512, which the formats with blocks of 256 need. */
  readonly wide?: boolean;
  readonly seed?: number;
  readonly untied?: boolean;
  readonly metadata?: Readonly<Record<string, GgufValue>>;
  readonly extraTensors?: readonly GgufTensor[];
  readonly without?: string;
}

const u32 = (value: number): GgufValue => ({ type: "u32", value });

/** The tensors of a tiny model under GGUF's names. */
export function tinyTensors(options: TinyOptions = {}): GgufTensor[] {
  const { vocabulary, heads, kvHeads, layers } = TINY;
  const { embedding, feedForward } = options.wide ? WIDE : TINY;
  const next = noise(options.seed ?? 1);
  const format = options.format ?? "Q4_1";
  const tensors: GgufTensor[] = [];
  const matrix = (name: string, cols: number, rows: number) => {
    const own = options.formats?.find(([pattern]) => pattern.test(name))?.[1] ?? format;
    tensors.push({ name, shape: [cols, rows], format: own, bytes: encode(own, cols * rows, next, 0.15) });
  };
  const norm = (name: string) => {
    const ones = Float32Array.from({ length: embedding }, () => 1 + 0.1 * next());
    tensors.push({ name, shape: [embedding], format: "F32", bytes: new Uint8Array(ones.buffer) });
  };
  const kv = (embedding / heads) * kvHeads;
  matrix("token_embd.weight", embedding, vocabulary);
  for (let l = 0; l < layers; l++) {
    norm(`blk.${l}.attn_norm.weight`);
    norm(`blk.${l}.ffn_norm.weight`);
    matrix(`blk.${l}.attn_q.weight`, embedding, embedding);
    matrix(`blk.${l}.attn_k.weight`, embedding, kv);
    matrix(`blk.${l}.attn_v.weight`, embedding, kv);
    matrix(`blk.${l}.attn_output.weight`, embedding, embedding);
    matrix(`blk.${l}.ffn_gate.weight`, embedding, feedForward);
    matrix(`blk.${l}.ffn_up.weight`, embedding, feedForward);
    matrix(`blk.${l}.ffn_down.weight`, feedForward, embedding);
  }
  norm("output_norm.weight");
  if (options.untied) matrix("output.weight", embedding, vocabulary);
  return [...tensors.filter((tensor) => tensor.name !== options.without), ...(options.extraTensors ?? [])];
}

export function tinyModel(options: TinyOptions = {}): Buffer {
  const { heads, kvHeads, layers, context } = TINY;
  const { embedding, feedForward } = options.wide ? WIDE : TINY;
  return ggufFile(
    {
      "general.architecture": { type: "string", value: "llama" },
      "llama.block_count": u32(layers),
      "llama.context_length": u32(context),
      "llama.embedding_length": u32(embedding),
      "llama.feed_forward_length": u32(feedForward),
      "llama.attention.head_count": u32(heads),
      "llama.attention.head_count_kv": u32(kvHeads),
      "llama.rope.freq_base": { type: "f32", value: 10000 },
      "llama.attention.layer_norm_rms_epsilon": { type: "f32", value: 1e-5 },
      "tokenizer.ggml.tokens": { type: "strings", value: ["a", "b", "ß"] },
      ...options.metadata,
    },
    tinyTensors(options),
  );
}

/** A directory of model files that is removed by `dispose`. */
export class ModelDirectory {
  readonly #path = mkdtempSync(join(tmpdir(), "streamserve-test-"));
  #files = 0;

  write(bytes: Uint8Array): string {
    const path = join(this.#path, `model-${this.#files++}.gguf`);
    writeFileSync(path, bytes);
    return path;
  }

  dispose(): void {
    rmSync(this.#path, { recursive: true, force: true });
  }
}
