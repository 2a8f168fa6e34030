import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { StepResult, StepRow } from "../dist/engine/engine.js";
import { readMetadata } from "../dist/engine/metadata.js";
import {
  closeEngine,
  type EngineInfo,
  NativeLane,
  type OperationProfile,
  openEngine,
} from "../dist/engine/native-engine.js";
import { generate, sampling } from "./generate.js";
import { ModelDirectory, TINY, tinyModel } from "./tiny-model.js";

/** Where the time of a step went: nothing of it lost, and the work that the model's shapes demand. */

const directory = new ModelDirectory();
const SEQUENCES = 8;
const PROMPT = 100;
let engine: EngineInfo;

const coded = (code: string) => expect.objectContaining({ code }) as unknown as Error;
const open = (of: EngineInfo, profile: boolean) =>
  new NativeLane({ engine: of, lane: 0, role: "decode", maxRows: SEQUENCES, maxBatchTokens: 256, profile });
const ids = (length: number, from = 0) =>
  Uint32Array.from({ length }, (_, i) => (from + i * 7) % TINY.vocabulary);

beforeAll(() => {
  engine = openEngine({ path: directory.write(tinyModel()), kvTokens: 4096, threads: 2 });
});

afterAll(() => {
  closeEngine(engine.id);
  directory.dispose();
});

function expectWhole(lane: NativeLane, result: StepResult): OperationProfile[] {
  const operations = lane.profile();
  const sum = operations.reduce((total, { ms }) => total + ms, 0);
  // The step's own time comes as a 32-bit float.
  expect(Math.abs(sum / result.computeMs - 1)).toBeLessThan(1e-5);
  for (const { ms, regions } of operations) {
    expect(ms).toBeGreaterThanOrEqual(0);
    expect(regions).toBeGreaterThan(0);
  }
  expect(new Set(operations.map(({ operation }) => operation)).size).toBe(operations.length);
  return operations;
}

const named = (operations: readonly OperationProfile[], name: string): OperationProfile => {
  const found = operations.find(({ operation }) => operation === name);
  if (!found) throw new Error(`no "${name}" in ${operations.map(({ operation }) => operation).join("; ")}`);
  return found;
};

/** What matrices and attention come to for rows of `tokens` that end at these lengths. */
function expectWork(
  operations: readonly OperationProfile[],
  rows: readonly { tokens: number; length: number }[],
  logits: number,
): void {
  const { embedding, feedForward, heads, kvHeads, layers, vocabulary } = TINY;
  const headDim = embedding / heads;
  const tokens = rows.reduce((sum, row) => sum + row.tokens, 0);
  const work = (name: string) => {
    const { int8Macs, f32Macs, kvBytes } = named(operations, name);
    return { int8Macs, f32Macs, kvBytes };
  };
  // After the last layer's keys and values nothing is computed for a prompt's chunk that draws nothing.
  const whole = logits > 0 ? layers : layers - 1;
  const matrix = (outputs: number, inputs: number, times = whole) => ({
    int8Macs: tokens * outputs * inputs * times,
    f32Macs: 0,
    kvBytes: 0,
  });
  // Values are computed twice, the second time from what quantisation lost.
  expect(work("q, k, v")).toEqual(matrix(embedding + 3 * kvHeads * headDim, embedding, layers));
  expect(work("attention out")).toEqual(matrix(embedding, embedding));
  expect(work("gate, up")).toEqual(matrix(2 * feedForward, embedding));
  expect(work("down")).toEqual(matrix(embedding, feedForward));
  const kvToken = layers * kvHeads * headDim * 2 * 2;
  expect(work("rotate, store k, v").kvBytes).toBe(tokens * kvToken);
  const pairs = rows.reduce((sum, row) => {
    for (let seen = row.length - row.tokens + 1; seen <= row.length; seen++) sum += seen;
    return sum;
  }, 0);
  expect(work("attention")).toEqual({
    int8Macs: 0,
    f32Macs: whole * pairs * embedding * 2,
    kvBytes: (rows.reduce((sum, row) => sum + row.length, 0) * kvToken * whole) / layers,
  });
  if (logits > 0) expect(named(operations, "logits").int8Macs).toBe(logits * vocabulary * embedding);
  else expect(operations.map(({ operation }) => operation)).not.toContain("logits");
}

describe("a profiled step", () => {
  let lane: NativeLane;
  beforeAll(() => {
    lane = open(engine, true);
  });
  afterAll(() => lane.close());

  const step = (rows: readonly StepRow[]) => expectWhole(lane, lane.submit(rows).collect());

  test("prefill, verification and decode, alone and side by side, add up to their compute time", () => {
    const handles = Array.from({ length: SEQUENCES }, (_, index) => {
      // Each its own, so that no cached blocks take the place of what is computed.
      const prompt = ids(PROMPT, index + 1);
      const sequence = lane.createSequence(prompt, PROMPT, sampling()).handle;
      const first = step([{ sequence, tokens: prompt.subarray(0, PROMPT - 1), drafts: 0, sample: false }]);
      expectWork(first, [{ tokens: PROMPT - 1, length: PROMPT - 1 }], 0);
      const last = step([{ sequence, tokens: prompt.subarray(PROMPT - 1), drafts: 0, sample: true }]);
      expectWork(last, [{ tokens: 1, length: PROMPT }], 1);
      return sequence;
    });
    const decoded = step(handles.map((sequence) => ({ sequence, tokens: [3], drafts: 0, sample: true })));
    expectWork(decoded, Array(SEQUENCES).fill({ tokens: 1, length: PROMPT + 1 }), SEQUENCES);
    const drafts = Array.from({ length: 9 }, (_, i) => i);
    const verified = step([{ sequence: handles[0]!, tokens: drafts, drafts: 8, sample: true }]);
    expectWork(verified, [{ tokens: 9, length: PROMPT + 10 }], 9);
    // Draws end at the first draft that fails.
    const drawn = named(verified, "draw").activationBytes / (4 * TINY.vocabulary);
    expect(drawn).toBe(lane.length(handles[0]!) - (PROMPT + 1));
    for (const sequence of handles) lane.release(sequence);
  });

  test("weights are those that are packed, read once a step however many rows there are", () => {
    const sequence = lane.createSequence(ids(40, 50), 40, sampling()).handle;
    const few = step([{ sequence, tokens: [1], drafts: 0, sample: true }]);
    const many = step([{ sequence, tokens: ids(64), drafts: 0, sample: true }]);
    lane.release(sequence);
    for (const name of ["q, k, v", "attention out", "gate, up", "down", "logits"]) {
      const { weightBytes } = named(few, name);
      expect(weightBytes).toBeGreaterThan(0);
      expect(named(many, name).weightBytes).toBe(weightBytes);
      expect(named(many, name).activationBytes).toBeGreaterThan(
        named(few, name).activationBytes * (name === "logits" ? 0.99 : 10),
      );
    }
    // Norms are no matrices; the tied embeddings are packed once and counted as the logits' matrix.
    const packed = few.reduce(
      (sum, { operation, weightBytes }) => sum + (operation === "embed" ? 0 : weightBytes),
      0,
    );
    expect(packed).toBeLessThanOrEqual(engine.weightBytes);
  });
});

test("a mixture's experts count for the tokens that chose them", () => {
  const path = fileURLToPath(new URL("fixtures/families/qwen3moe-q4_1.gguf", import.meta.url));
  const used = Number(readMetadata(path).metadata.get("qwen3moe.expert_used_count"));
  const experts = Number(readMetadata(path).metadata.get("qwen3moe.expert_count"));
  expect(used).toBeGreaterThan(0);
  const mixture = openEngine({ path, kvTokens: 1024 });
  const lane = open(mixture, true);
  const sequence = lane.createSequence(ids(64), 64, sampling()).handle;
  const bytes: number[] = [];
  for (const tokens of [1, 2, 64]) {
    const result = lane.submit([{ sequence, tokens: ids(tokens), drafts: 0, sample: true }]).collect();
    const operations = expectWhole(lane, result);
    const up = named(operations, "experts' gate, up");
    const down = named(operations, "experts' down");
    const one = tokens * used * mixture.feedForward * mixture.embedding * mixture.layers;
    expect([up.int8Macs + up.f32Macs, down.int8Macs + down.f32Macs]).toEqual([2 * one, one]);
    bytes.push(up.weightBytes + down.weightBytes);
  }
  // One token reads its own experts; many read no more than all there are.
  expect(bytes[1]).toBeGreaterThanOrEqual(bytes[0]!);
  expect(bytes[2]).toBeLessThanOrEqual((bytes[0]! * experts) / used);
  lane.close();
  closeEngine(mixture.id);
});

test("profiling changes no token, and a lane without it says so", () => {
  const answers = [true, false].map((profile) => {
    const lane = open(engine, profile);
    expect(() => lane.profile()).toThrowError(coded("native_argument_invalid"));
    const answer = generate(lane, ids(30), 12, sampling({ temperature: 1, seed: 4 }));
    if (profile) expect(lane.profile().length).toBeGreaterThan(5);
    else expect(() => lane.profile()).toThrowError(coded("native_argument_invalid"));
    lane.close();
    expect(() => lane.profile()).toThrowError(coded("stale_handle"));
    return answer;
  });
  expect(answers[0]).toEqual(answers[1]);
});
