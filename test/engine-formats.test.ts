import { afterAll, describe, expect, test } from "vitest";
import { closeEngine, NativeLane, openEngine } from "../dist/engine/native-engine.js";
import type { TensorFormat } from "./gguf-file.js";
import { ModelDirectory, TINY, tinyModel } from "./tiny-model.js";

/** Each format of weights against the same weights widened to f32. Limits: a share of what another text changes. */

const directory = new ModelDirectory();
afterAll(() => directory.dispose());

function score(path: string, exact: boolean, ids: Uint32Array): Float32Array {
  const engine = openEngine({ path, kvTokens: 512, exact });
  const lane = new NativeLane({ engine, lane: 0, role: "prefill", maxRows: 2, maxBatchTokens: 64 });
  const scores = lane.score(ids);
  lane.close();
  closeEngine(engine.id);
  return scores;
}

/** Mean Kullback-Leibler divergence of `other` from `reference`, in nats, over rows of log-probabilities. */
function divergence(reference: Float32Array, other: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < reference.length; i++) sum += Math.exp(reference[i]!) * (reference[i]! - other[i]!);
  return sum / (reference.length / TINY.vocabulary);
}

const ids = Uint32Array.from({ length: 80 }, (_, i) => (i * 37 + (i >> 3)) % TINY.vocabulary);

const WIDE_ROWS: readonly TensorFormat[] = ["Q4_K", "Q5_K", "Q6_K"];

describe.each<[TensorFormat, number]>([
  // Float formats are widened exactly, and meet activations in f32.
  ["F32", 0],
  ["F16", 0],
  ["BF16", 0],
  // Quantised ones meet 8-bit activations: some 1% of noise in each product.
  ["Q8_0", 1e-3],
  ["Q4_0", 1e-3],
  ["Q4_1", 1e-3],
  ["Q5_0", 1e-3],
  ["Q5_1", 1e-3],
  ["Q4_K", 1e-3],
  ["Q5_K", 1e-3],
  ["Q6_K", 1e-3],
  ["IQ4_NL", 1e-3],
])("weights as %s", (format, limit) => {
  test.each([false, true])("agree with their f32 form (untied head: %s)", (untied) => {
    const wide = WIDE_ROWS.includes(format);
    agree(directory.write(tinyModel({ format, untied, wide, seed: 7 })), limit);
  });
});

test("a file that mixes formats as llama.cpp's Q4_K_M does agrees with its f32 form", () => {
  const path = directory.write(
    tinyModel({
      format: "Q4_K",
      wide: true,
      seed: 8,
      formats: [
        [/token_embd/, "Q6_K"],
        [/blk\.0\.(attn_v|ffn_down)/, "Q6_K"],
        [/blk\.1\.attn_k/, "Q5_0"],
        [/blk\.1\.attn_v/, "Q8_0"],
        [/blk\.1\.ffn_gate/, "Q5_K"],
        [/blk\.1\.ffn_down/, "IQ4_NL"],
      ],
    }),
  );
  agree(path, 1e-3);
});

/** Whether the engine as it is and its exact mode say the same of a text, next to what another text changes. */
function agree(path: string, limit: number): void {
  const exact = score(path, true, ids);
  const rows = ids.length;
  expect(exact.length).toBe(rows * TINY.vocabulary);
  for (let r = 0; r < rows; r++) {
    const row = exact.subarray(r * TINY.vocabulary, (r + 1) * TINY.vocabulary);
    expect(row.reduce((sum, x) => sum + Math.exp(x), 0)).toBeCloseTo(1, 5);
  }
  const elsewhere = ids.map((id) => (id + 1) % TINY.vocabulary);
  const scale = divergence(exact, score(path, true, elsewhere));
  const found = divergence(exact, score(path, false, ids)) / scale;
  expect(Math.abs(found)).toBeLessThanOrEqual(limit);
  // A model that says the same of every text would pass all of the above.
  expect(scale).toBeGreaterThan(0.01);
}
