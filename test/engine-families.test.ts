import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import type { StepRow } from "../dist/engine/engine.js";
import { closeEngine, type EngineOptions, NativeLane, openEngine } from "../dist/engine/native-engine.js";
import { append, compute, type Generated, generate, nothing, sampling } from "./generate.js";

/**
 * A tiny model of each family against what transformers computed from the same weights in f32
 * (fixtures/families/models.py).
 */

interface Reference {
  readonly ids: readonly number[];
  readonly positions: readonly number[];
  /** Of the whole vocabulary after each position, natural logarithms. */
  readonly logprobs: readonly (readonly number[])[];
  /** The same after the last of so many ids alone. */
  readonly short_context: number;
  readonly short_logprobs: readonly number[];
  /** After the last id, with keys and values in f32. */
  readonly kv32: readonly number[];
  readonly prompt: number;
  readonly output: readonly number[];
  readonly margins: readonly number[];
}

const FAMILIES = [
  "llama",
  "mistral",
  "qwen2",
  "qwen2-yarn",
  "qwen3",
  "gemma",
  "gemma2",
  "gemma3",
  "phi3",
  "mixtral",
  "qwen3moe",
];

/** Rounding of f32 sums in two orders, where a position sees few others. */
const FEW = { mean: 2e-5, most: 1e-4 };
/** And that a key or value close to the middle between two halves then may become the other half. */
const ROUNDING = { mean: 3e-4, most: 1e-3 };
/** What keys and values in f16 may change. */
const KV_ROUNDING = { mean: 5e-3, most: 2e-2 };

/** Activations in 8 bits: their share of what another text changes. */
const QUANTISATION = 3e-3;

const at = (name: string): string =>
  fileURLToPath(new URL(`fixtures/families/${name}.gguf`, import.meta.url));
const referenceOf = (name: string): Reference =>
  JSON.parse(readFileSync(new URL(`fixtures/families/${name}.json`, import.meta.url), "utf8"));

function withLane<T>(
  name: string,
  options: Partial<EngineOptions>,
  use: (lane: NativeLane) => T,
  maxBatchTokens = 128,
): T {
  const engine = openEngine({ path: at(name), kvTokens: 2048, exact: true, ...options });
  const lane = new NativeLane({ engine, lane: 0, role: "prefill", maxRows: 8, maxBatchTokens });
  try {
    return use(lane);
  } finally {
    lane.close();
    closeEngine(engine.id);
  }
}

/** Differences of a row of scores from what is expected. */
function distance(scores: Float32Array, expected: readonly number[], row: number) {
  const differences = expected.map((value, i) => Math.abs(value - scores[row * expected.length + i]!));
  const sum = differences.reduce((total, difference) => total + difference, 0);
  return { mean: sum / differences.length, most: Math.max(...differences) };
}

function expectNear(found: ReturnType<typeof distance>, limit: typeof ROUNDING, where: string): void {
  expect(found.mean, where).toBeLessThan(limit.mean);
  expect(found.most, where).toBeLessThan(limit.most);
}

describe.each(FAMILIES)("%s", (name) => {
  const reference = referenceOf(name);

  test("gives transformers' log-probabilities", () => {
    const scores = withLane(name, {}, (lane) => lane.score(Uint32Array.from(reference.ids)));
    for (const [i, position] of reference.positions.entries()) {
      const limit = position < 2 ? FEW : ROUNDING;
      expectNear(distance(scores, reference.logprobs[i]!, position), limit, `after id ${position}`);
    }
    const last = reference.ids.length - 1;
    expectNear(distance(scores, reference.kv32, last), KV_ROUNDING, "keys and values in f32");
    // A model that says the same after every text would pass all of the above.
    expect(distance(scores, reference.logprobs[0]!, last).most).toBeGreaterThan(1);
  });

  test("gives them in a shorter context", () => {
    const ids = Uint32Array.from(reference.ids.slice(0, reference.short_context));
    const scores = withLane(name, { contextTokens: reference.short_context }, (lane) => lane.score(ids));
    expectNear(distance(scores, reference.short_logprobs, ids.length - 1), ROUNDING, "after the last id");
  });

  test("continues as transformers does", () => {
    // Further apart than anything that rounding could turn round.
    expect(Math.min(...reference.margins)).toBeGreaterThan(2 * ROUNDING.most);
    const prompt = Uint32Array.from(reference.ids.slice(0, reference.prompt));
    const { tokens } = withLane(name, { contextTokens: reference.short_context }, (lane) =>
      generate(lane, prompt, reference.output.length, sampling()),
    );
    expect(tokens).toEqual(reference.output);
  });
});

describe.each(["qwen2", "phi3", "gemma3", "qwen3moe"])("%s, quantised", (name) => {
  test("stays near its own f32 form", () => {
    const ids = Uint32Array.from(referenceOf(name).ids);
    const [exact, quantised, elsewhere] = [
      { exact: true, text: ids },
      { exact: false, text: ids },
      { exact: true, text: ids.map((id) => (id + 1) % 96) },
    ].map(({ exact: widened, text }) =>
      withLane(`${name}-q4_1`, { exact: widened }, (lane) => lane.score(text)),
    ) as [Float32Array, Float32Array, Float32Array];
    const scale = divergence(exact, elsewhere);
    expect(scale / ids.length).toBeGreaterThan(0.1);
    const found = divergence(exact, quantised) / scale;
    expect(found).toBeGreaterThan(0);
    expect(found).toBeLessThan(QUANTISATION);
  });
});

/** Sum over all rows of the Kullback-Leibler divergence of `other` from `reference`, in nats. */
function divergence(reference: Float32Array, other: Float32Array): number {
  return reference.reduce((sum, p, i) => sum + Math.exp(p) * (p - other[i]!), 0);
}

/** As the files are: weights in the format they were written in, quantised activations where that asks for them. */
describe.each([...FAMILIES, "phi3-q4_1", "gemma3-q4_1", "qwen3moe-q4_1"])(
  "batch invariance of %s",
  (name) => {
    const ids = Uint32Array.from(referenceOf(name.replace("-q4_1", "")).ids);
    const asShipped = { exact: false };

    test("scores have the same bits however the text is cut", () => {
      const whole = withLane(name, asShipped, (lane) => lane.score(ids));
      for (const batch of [1, 7, 17]) {
        expect(
          withLane(name, asShipped, (lane) => lane.score(ids), batch),
          `chunks of ${batch}`,
        ).toEqual(whole);
      }
    });

    test("and on any number of threads and every kernel family that this processor runs", () => {
      const whole = withLane(name, asShipped, (lane) => lane.score(ids));
      let compared = 0;
      for (const instructionSet of ["portable", "avx2", "avx2-vnni", "avx512-vnni"]) {
        for (const threads of [1, 2, 3, 4]) {
          let scores: Float32Array;
          try {
            scores = withLane(name, { ...asShipped, instructionSet, threads }, (lane) => lane.score(ids));
          } catch (error) {
            expect(error).toMatchObject({ code: "native_argument_invalid" });
            continue;
          }
          expect(scores, `${instructionSet}, ${threads} threads`).toEqual(whole);
          compared++;
        }
      }
      expect(compared).toBeGreaterThanOrEqual(4);
    });

    test("a request among others and with drafts is the request alone", () => {
      const how = sampling({ temperature: 1, seed: 99, logprobs: 3 });
      const prompt = ids.subarray(0, 45);
      const alone = withLane(name, asShipped, (lane) => generate(lane, prompt, 12, how));
      withLane(name, asShipped, (lane) => {
        expect(amongOthers(lane, prompt, ids, 12, how)).toEqual(alone);
        expect(speculating(lane, prompt, alone.tokens, how)).toEqual(alone);
      });
    });
  },
);

type How = ReturnType<typeof sampling>;

/** Draws `count` tokens in step with seven other sequences of other lengths. */
function amongOthers(
  lane: NativeLane,
  prompt: Uint32Array,
  text: Uint32Array,
  count: number,
  how: How,
): Generated {
  const prompts = [prompt, ...Array.from({ length: 7 }, (_, i) => text.subarray(i + 1, 20 + 9 * i))];
  const all = prompts.map((own, i) => {
    const { handle, cachedTokens } = lane.createSequence(
      own,
      own.length,
      i === 0 ? how : sampling({ seed: i }),
    );
    compute(lane, handle, own.subarray(cachedTokens, -1), 13);
    return { handle, out: nothing(), pending: own.at(-1)! };
  });
  for (let step = 0; step < count; step++) {
    const rows: StepRow[] = all.map(({ handle, pending }) => ({
      sequence: handle,
      tokens: [pending],
      drafts: 0,
      sample: true,
    }));
    for (const [i, row] of lane.submit(rows).collect().rows.entries()) {
      append(all[i]!.out, row);
      all[i]!.pending = row.tokens[0]!;
    }
  }
  for (const { handle } of all) lane.release(handle);
  return all[0]!.out;
}

/** Draws the same tokens by verifying drafts: right ones, four at a time. */
function speculating(lane: NativeLane, prompt: Uint32Array, truth: readonly number[], how: How): Generated {
  const { handle, cachedTokens } = lane.createSequence(prompt, prompt.length, how);
  compute(lane, handle, prompt.subarray(cachedTokens, -1), 64);
  const out = nothing();
  for (let last = prompt.at(-1)!; out.tokens.length < truth.length; last = out.tokens.at(-1)!) {
    const from = out.tokens.length;
    const drafts = truth.slice(from, Math.min(from + 3, truth.length - 1));
    const tokens = [last, ...drafts];
    append(
      out,
      lane.submit([{ sequence: handle, tokens, drafts: drafts.length, sample: true }]).collect().rows[0]!,
    );
  }
  lane.release(handle);
  return out;
}
