import { readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { readMetadata } from "../dist/engine/metadata.js";
import { closeEngine, NativeLane, openEngine } from "../dist/engine/native-engine.js";
import { QUANTISED_FORMATS, type QuantisedFormat, Quantiser } from "../dist/engine/quantiser.js";
import { quantise } from "../dist/model/quantise/quantise.js";
import type { GgufTensor } from "./gguf-file.js";
import { HubDirectory, hubTensor, safetensorsFile, TINY_CONFIG } from "./hub-model.js";
import { ModelDirectory, TINY, tinyModel, tinyTensors } from "./tiny-model.js";

/** Models written in fewer bits: whole valid files, rounded at least as well as by the span of each block. */

const models = new ModelDirectory();
const hubs = new HubDirectory();
afterAll(() => {
  models.dispose();
  hubs.dispose();
});

const f32 = models.write(tinyModel({ format: "F32", seed: 31 }));
const directory = dirname(f32);
let next = 0;
const outPath = () => join(directory, `out-${next++}.gguf`);
const ids = Uint32Array.from({ length: 40 }, (_, i) => (i * 37 + (i >> 3)) % TINY.vocabulary);

function score(path: string): Float32Array {
  const engine = openEngine({ path, kvTokens: 256, exact: true });
  const lane = new NativeLane({ engine, lane: 0, role: "prefill", maxRows: 1, maxBatchTokens: 64 });
  const scores = lane.score(ids);
  lane.close();
  closeEngine(engine.id);
  return scores;
}

/** A tiny model whose first matrix has these weights, 64 a row. */
function withWeights(values: Float32Array): string {
  const name = "blk.0.attn_q.weight";
  const bytes = new Uint8Array(TINY.embedding * TINY.embedding * 4);
  bytes.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  const tensor: GgufTensor = { name, shape: [TINY.embedding, TINY.embedding], format: "F32", bytes };
  return models.write(tinyModel({ format: "F32", without: name, extraTensors: [tensor] }));
}

function half(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const magnitude =
    exponent === 0 ? (bits & 1023) * 2 ** -24 : (1 + (bits & 1023) / 1024) * 2 ** (exponent - 15);
  return bits & 0x8000 ? -magnitude : magnitude;
}

/** The nearest f16, ties to even, as a number. */
function nearestHalf(value: number): number {
  if (value === 0) return 0;
  const unit = 2 ** Math.max(Math.floor(Math.log2(Math.abs(value))) - 10, -24);
  const steps = value / unit;
  const down = Math.floor(steps);
  const rest = steps - down;
  return (rest > 0.5 || (rest === 0.5 && down % 2 !== 0) ? down + 1 : down) * unit;
}

/** The weights of a block as the format means them. */
function widen(format: QuantisedFormat, block: DataView): number[] {
  const scale = half(block.getUint16(0, true));
  if (format === "q8_0") return Array.from({ length: 32 }, (_, k) => scale * block.getInt8(2 + k));
  const minimum = format === "q4_1" ? half(block.getUint16(2, true)) : -8 * scale;
  const at = format === "q4_1" ? 4 : 2;
  return Array.from({ length: 32 }, (_, k) => {
    const both = block.getUint8(at + (k % 16));
    return scale * (k < 16 ? both & 15 : both >> 4) + minimum;
  });
}

/** The same rounded by the block's span alone, as the formats' reference does. */
function bySpan(format: QuantisedFormat, values: readonly number[]): number[] {
  const clamp = (level: number, low: number, high: number) => Math.min(Math.max(level, low), high);
  if (format === "q4_1") {
    const low = Math.min(...values);
    const exactScale = (Math.max(...values) - low) / 15;
    const [scale, minimum] = [nearestHalf(exactScale), nearestHalf(low)];
    return values.map(
      (x) =>
        (exactScale === 0 ? 0 : clamp(Math.floor((x - low) / exactScale + 0.5), 0, 15)) * scale + minimum,
    );
  }
  const largest = values.reduce((most, x) => (Math.abs(x) > Math.abs(most) ? x : most), 0);
  const exactScale = format === "q4_0" ? largest / -8 : Math.abs(largest) / 127;
  const [low, high] = format === "q4_0" ? [-8, 7] : [-127, 127];
  const scale = nearestHalf(exactScale);
  return values.map((x) => (exactScale === 0 ? 0 : clamp(Math.round(x / exactScale), low, high)) * scale);
}

const squaredError = (a: readonly number[], b: readonly number[]) =>
  a.reduce((sum, x, i) => sum + (x - b[i]!) ** 2, 0);

describe.each<QuantisedFormat>(["q4_0", "q4_1", "q8_0"])("%s", (format) => {
  test("no block is rounded worse than by its span", () => {
    const weight = fc.float({ min: -4, max: 4, noNaN: true });
    const block = fc.oneof(
      fc.array(weight, { minLength: 32, maxLength: 32 }),
      fc.array(fc.float({ min: Math.fround(1e-3), max: Math.fround(2e-3), noNaN: true }), {
        minLength: 32,
        maxLength: 32,
      }),
      fc.constant(new Array<number>(32).fill(0)),
      weight.map((x) => new Array<number>(32).fill(x)),
    );
    fc.assert(
      fc.property(fc.array(block, { minLength: 8, maxLength: 8 }), (rows) => {
        const values = Float32Array.from(rows.flat());
        const source = new Quantiser(withWeights(values), 2);
        const bytes = source.tensor("blk.0.attn_q.weight", format);
        source.close();
        const { blockBytes } = QUANTISED_FORMATS[format];
        for (const [at, given] of rows.entries()) {
          const mine = widen(format, new DataView(bytes.buffer, at * blockBytes, blockBytes));
          const error = squaredError(mine, given);
          const reference = squaredError(bySpan(format, given), given);
          // f32 arithmetic inside, f64 here.
          expect(error).toBeLessThanOrEqual(reference * (1 + 1e-4) + 1e-12);
        }
      }),
      { numRuns: 60 },
    );
  });

  test("ordinary weights are rounded better than by their spans", () => {
    // Sums of four sines of unrelated frequencies are nearly bell-shaped.
    const values = Float32Array.from({ length: TINY.embedding * TINY.embedding }, (_, k) =>
      [1.3, 2.7, 4.1, 7.9].reduce((sum, frequency) => sum + Math.sin(frequency * (k + 1) ** 1.1), 0),
    );
    const source = new Quantiser(withWeights(values), 2);
    const bytes = source.tensor("blk.0.attn_q.weight", format);
    source.close();
    const { blockBytes } = QUANTISED_FORMATS[format];
    let mine = 0;
    let reference = 0;
    for (let at = 0; at < values.length / 32; at++) {
      const given = [...values.subarray(32 * at, 32 * (at + 1))];
      mine += squaredError(widen(format, new DataView(bytes.buffer, at * blockBytes, blockBytes)), given);
      reference += squaredError(bySpan(format, given), given);
    }
    expect(mine / reference).toBeLessThan(format === "q8_0" ? 0.99 : 0.9);
  });

  test("what a block can hold exactly, it does; 8 bits stay within a step", () => {
    const values = Float32Array.from({ length: 64 }, (_, k) => ((k * 7) % 16) - 8);
    const source = new Quantiser(withWeights(values), 1);
    const bytes = source.tensor("blk.0.attn_q.weight", format);
    source.close();
    const { blockBytes } = QUANTISED_FORMATS[format];
    const [first, second] = [0, 1].map((at) =>
      widen(format, new DataView(bytes.buffer, at * blockBytes, blockBytes)),
    );
    const found = [...first!, ...second!];
    if (format === "q8_0")
      for (const [k, x] of found.entries()) expect(Math.abs(x - values[k]!)).toBeLessThan(8 / 127);
    else expect(found).toEqual([...values]);
  });

  test("columns that count more are rounded closer", () => {
    const values = Float32Array.from({ length: 64 }, (_, k) => Math.sin(k * 1.7) * (1 + (k % 5)));
    const source = new Quantiser(withWeights(values), 1);
    const importance = Float32Array.from({ length: 64 }, (_, k) => (k % 4 === 0 ? 100 : 0.01));
    const { blockBytes } = QUANTISED_FORMATS[format];
    const error = (weights: Float32Array) => {
      const bytes = source.tensor("blk.0.attn_q.weight", format, weights);
      const found = [0, 1].flatMap((at) =>
        widen(format, new DataView(bytes.buffer, at * blockBytes, blockBytes)),
      );
      return found.reduce((sum, x, k) => sum + (k % 4 === 0 ? (x - values[k]!) ** 2 : 0), 0);
    };
    expect(error(importance)).toBeLessThan(error(new Float32Array(64).fill(1)));
    expect(() => source.tensor("blk.0.attn_q.weight", format, importance.subarray(1))).toThrow(/importance/);
    source.close();
  });
});

test("a file written in F32 computes to the bit what its source does, from GGUF as from safetensors", async () => {
  const truth = score(f32);
  const fromGguf = outPath();
  await quantise({ source: f32, out: fromGguf, format: "f32", threads: 2 });
  expect(score(fromGguf)).toEqual(truth);
  const { metadata } = readMetadata(f32);
  expect(Object.fromEntries(readMetadata(fromGguf).metadata)).toMatchObject(Object.fromEntries(metadata));
  const fromHub = outPath();
  await quantise({ source: hubModel(), out: fromHub, format: "f32", threads: 2 });
  expect(score(fromHub)).toEqual(truth);
});

/** The F32 model as a hub directory with a small byte-level tokenizer. */
function hubModel(): string {
  return hubs.write({
    "config.json": { ...TINY_CONFIG, eos_token_id: 1 },
    "model.safetensors": safetensorsFile(tinyTensors({ format: "F32", seed: 31 }).map(hubTensor)),
    "tokenizer_config.json": { chat_template: "{{ messages[0].content }}", eos_token: "<end>" },
    "tokenizer.json": {
      added_tokens: [{ id: 1, content: "<end>", special: true }],
      pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, use_regex: true },
      model: { type: "BPE", vocab: { a: 0, b: 2, ab: 3 }, merges: [["a", "b"]] },
    },
  });
}

test("the tokenizer of a safetensors model goes along, with GGUF's types", async () => {
  const out = outPath();
  await quantise({ source: hubModel(), out, format: "q8_0", threads: 1 });
  const { metadata, types, version } = readMetadata(out);
  expect(version).toBe(3);
  expect(Object.fromEntries(metadata)).toMatchObject({
    "general.architecture": "llama",
    "general.file_type": 7,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "gpt-2",
    "tokenizer.ggml.tokens": ["a", "<end>", "b", "ab"],
    "tokenizer.ggml.token_type": Int32Array.of(1, 3, 1, 1),
    "tokenizer.ggml.merges": ["a b"],
    "tokenizer.ggml.eos_token_id": 1,
    "tokenizer.chat_template": "{{ messages[0].content }}",
    "llama.block_count": TINY.layers,
  });
  // Whole numbers as u32 and hyper-parameters as f32: what other readers insist on.
  expect(types.get("llama.block_count")).toBe(4);
  expect(types.get("llama.rope.freq_base")).toBe(6);
});

test.each<[QuantisedFormat, number]>([
  ["q8_0", 1e-4],
  ["q4_1", 0.02],
  ["q4_0", 0.02],
  ["bf16", 1e-4],
  ["f16", 1e-6],
])("%s stays close to its source", async (format, limit) => {
  const out = outPath();
  const seen: number[] = [];
  await quantise({
    source: f32,
    out,
    format,
    threads: 2,
    progress: (done, total) => seen.push(done / total),
  });
  const truth = score(f32);
  const mine = score(out);
  let divergence = 0;
  for (let i = 0; i < truth.length; i++) divergence += Math.exp(truth[i]!) * (truth[i]! - mine[i]!);
  expect(divergence / ids.length).toBeLessThan(limit);
  expect(divergence).not.toBe(0);
  const { tensors } = readMetadata(out);
  const format_of = (name: string) => tensors.find((tensor) => tensor.name === name)?.format.toLowerCase();
  expect(format_of("blk.0.ffn_up.weight")).toBe(format);
  expect(format_of("token_embd.weight")).toBe(format.startsWith("q4") ? "q8_0" : format);
  expect(format_of("output_norm.weight")).toBe("f32");
  expect(seen[0]).toBe(0);
  expect(seen.at(-1)).toBe(1);
  expect(seen).toEqual([...seen].sort((a, b) => a - b));
});

describe("refusals leave nothing behind", () => {
  const leftovers = () => readdirSync(directory).filter((name) => name.includes("partial"));

  test("a model that is rounded already", async () => {
    const source = models.write(tinyModel({ format: "Q8_0" }));
    const refused = quantise({ source, out: outPath(), format: "q4_0", threads: 1 });
    await expect(refused).rejects.toMatchObject({ code: "model_format_unsupported" });
    const out = outPath();
    await quantise({ source, out, format: "q4_0", threads: 1, requantise: true });
    expect(statSync(out).size).toBeGreaterThan(0);
    // Widening loses nothing.
    const wide = outPath();
    await quantise({ source, out: wide, format: "f32", threads: 1 });
    expect(score(wide)).toEqual(score(source));
  });

  test("a file that is there, unless it may be replaced", async () => {
    const out = outPath();
    writeFileSync(out, "precious");
    const options = { source: f32, out, format: "q8_0", threads: 1 } as const;
    await expect(quantise(options)).rejects.toMatchObject({ code: "invalid_parameter" });
    expect(readFileSync(out, "utf8")).toBe("precious");
    await quantise({ ...options, overwrite: true });
    expect(readMetadata(out).version).toBe(3);
    await expect(quantise({ ...options, out: directory, overwrite: true })).rejects.toMatchObject({
      code: "invalid_parameter",
    });
    await expect(quantise({ ...options, out: "/no/such/place/x.gguf" })).rejects.toMatchObject({
      code: "invalid_parameter",
    });
    expect(leftovers()).toEqual([]);
  });

  test("the model's own file, whatever it is called", async () => {
    const source = models.write(tinyModel({ format: "F32" }));
    const before = readFileSync(source);
    const link = outPath();
    symlinkSync(source, link);
    for (const out of [source, link]) {
      const refused = quantise({ source, out, format: "q8_0", threads: 1, overwrite: true });
      await expect(refused).rejects.toMatchObject({ code: "invalid_parameter" });
    }
    expect(readFileSync(source)).toEqual(before);
    expect(leftovers()).toEqual([]);
  });

  test.each([Number.NaN, Number.POSITIVE_INFINITY, 1e6])("a weight of %s", async (value) => {
    const values = new Float32Array(64).fill(0.5);
    values[7] = value;
    const out = outPath();
    const refused = quantise({ source: withWeights(values), out, format: "q4_1", threads: 2 });
    await expect(refused).rejects.toMatchObject({
      code: "model_file_invalid",
      message: expect.stringMatching(/blk\.0\.attn_q\.weight/),
    });
    expect(leftovers()).toEqual([]);
    expect(() => statSync(out)).toThrow();
  });

  test("a run that is cancelled", async () => {
    const aborted = new AbortController();
    const out = outPath();
    const refused = quantise({
      source: f32,
      out,
      format: "q4_1",
      threads: 1,
      progress: (done) => done > 0 && aborted.abort(),
      signal: aborted.signal,
    });
    await expect(refused).rejects.toMatchObject({ code: "cancelled" });
    expect(leftovers()).toEqual([]);
    expect(() => statSync(out)).toThrow();
  });

  test("a model that is not there", async () => {
    const refused = quantise({ source: "/no/such.gguf", out: outPath(), format: "q4_0", threads: 1 });
    await expect(refused).rejects.toMatchObject({ code: "model_not_found" });
  });
});
