import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { closeEngine, type EngineInfo, NativeLane, openEngine } from "../dist/engine/native-engine.js";
import { generate, sampling, shippedModel } from "./generate.js";

/**
 * The model's numbers against those that PyTorch computed from the same file in f32 (fixtures/oracle). The engine
 * in its exact mode must follow them; as shipped (4-bit weights, 8-bit activations) it must stay as close to the
 * exact mode as llama.cpp stays on the same file and the same texts.
 */

const read = <T>(name: string): T =>
  JSON.parse(readFileSync(new URL(`fixtures/oracle/${name}`, import.meta.url), "utf8"));

interface LogitsCase {
  readonly ids: readonly number[];
  readonly positions: readonly number[];
  readonly top_ids: readonly (readonly number[])[];
  readonly top_logprobs: readonly (readonly number[])[];
  readonly nll: number;
}

interface GreedyCase {
  readonly prompt_ids: readonly number[];
  readonly output_ids: readonly number[];
  readonly margins: readonly number[];
}

const texts = read<LogitsCase[]>("logits.json");
const windows = read<number[][]>("windows.json");
const greedy = read<GreedyCase[]>("greedy.json");

/** llama.cpp's distance from f32 on windows.json: mean Kullback-Leibler divergence in nats, share of equal choices. */
const LLAMA_CPP = { divergence: 0.002667, sameChoice: 0.965 };
/** What docs/decisions/kv-int8.md states of KV kept as int8, rounded: as shipped, and with all else exact. */
const INT8_KV = { divergence: 0.0031, sameChoice: 0.966 };
const INT8_KV_ALONE = { divergence: 0.0007, sameChoice: 0.98 };
/** Choices whose log-probabilities are closer than this are ties: f16 KV decides them otherwise. */
const TIE = 0.005;
const WINDOW_FROM = 256;

let path: string;
let engines: EngineInfo[];
let exact: NativeLane;
let shipped: NativeLane;
let int8Kv: NativeLane;
let exactInt8Kv: NativeLane;

beforeAll(async () => {
  path = await shippedModel();
  engines = [
    openEngine({ path, kvTokens: 2048, exact: true }),
    openEngine({ path, kvTokens: 2048 }),
    openEngine({ path, kvTokens: 2048, kv: "int8" }),
    openEngine({ path, kvTokens: 2048, exact: true, kv: "int8" }),
  ];
  [exact, shipped, int8Kv, exactInt8Kv] = engines.map(
    (engine) => new NativeLane({ engine, lane: 0, role: "prefill", maxRows: 1, maxBatchTokens: 512 }),
  ) as [NativeLane, NativeLane, NativeLane, NativeLane];
}, 120_000);

afterAll(() => {
  for (const lane of [exact, shipped, int8Kv, exactInt8Kv]) lane.close();
  for (const { id } of engines) closeEngine(id);
});

function argmax(row: Float32Array): number {
  let best = 0;
  for (let i = 1; i < row.length; i++) if (row[i]! > row[best]!) best = i;
  return best;
}

/** Divergence of `other` from the 20 likeliest of the truth and the rest taken as one: at most the full one. */
function topDivergence(ids: readonly number[], logprobs: readonly number[], other: Float32Array): number {
  let sum = 0;
  let truthLeft = 1;
  let otherLeft = 1;
  for (const [i, id] of ids.entries()) {
    sum += Math.exp(logprobs[i]!) * (logprobs[i]! - other[id]!);
    truthLeft -= Math.exp(logprobs[i]!);
    otherLeft -= Math.exp(other[id]!);
  }
  return truthLeft > 1e-6 && otherLeft > 1e-6 ? sum + truthLeft * Math.log(truthLeft / otherLeft) : sum;
}

function compareTexts(lane: NativeLane) {
  const { vocabulary } = lane.limits;
  let divergence = 0;
  let same = 0;
  let count = 0;
  let worstNll = 0;
  for (const { ids, positions, top_ids, top_logprobs, nll } of texts) {
    const scores = lane.score(Uint32Array.from(ids));
    for (const [i, position] of positions.entries()) {
      const row = scores.subarray(position * vocabulary, (position + 1) * vocabulary);
      divergence += topDivergence(top_ids[i]!, top_logprobs[i]!, row);
      if (argmax(row) === top_ids[i]![0]) same++;
      count++;
    }
    let own = 0;
    for (let p = 0; p + 1 < ids.length; p++) own -= scores[p * vocabulary + ids[p + 1]!]!;
    worstNll = Math.max(worstNll, Math.abs(own / (ids.length - 1) - nll));
  }
  return { divergence: divergence / count, sameChoice: same / count, worstNll };
}

test("the exact mode gives the log-probabilities of the truth", () => {
  const { divergence, sameChoice, worstNll } = compareTexts(exact);
  expect(divergence).toBeLessThan(1e-5);
  expect(sameChoice).toBe(1);
  expect(worstNll).toBeLessThan(1e-3);
}, 300_000);

test("as shipped, the log-probabilities stay close to the truth", () => {
  const { divergence, sameChoice, worstNll } = compareTexts(shipped);
  expect(divergence).toBeLessThan(LLAMA_CPP.divergence);
  expect(sameChoice).toBeGreaterThan(0.95);
  expect(worstNll).toBeLessThan(0.02);
}, 300_000);

/** Mean divergence from the exact mode, in nats, and share of equal choices, for one lane. */
class WindowTotals {
  #divergence = 0;
  #same = 0;
  #count = 0;

  add(truth: Float32Array, own: Float32Array): void {
    for (let i = 0; i < truth.length; i++) this.#divergence += Math.exp(truth[i]!) * (truth[i]! - own[i]!);
    if (argmax(truth) === argmax(own)) this.#same++;
    this.#count++;
  }

  means(): { divergence: number; sameChoice: number } {
    return { divergence: this.#divergence / this.#count, sameChoice: this.#same / this.#count };
  }
}

test("the windows stay as close to f32 as llama.cpp's as shipped, and nearly so with int8 KV", () => {
  const { vocabulary } = shipped.limits;
  const f16 = new WindowTotals();
  const int8 = new WindowTotals();
  const int8Alone = new WindowTotals();
  for (const window of windows) {
    const ids = Uint32Array.from(window);
    const lanes = [exact, shipped, int8Kv, exactInt8Kv];
    const [truth, ofShipped, ofInt8, ofInt8Alone] = lanes.map((lane) => lane.score(ids, WINDOW_FROM));
    for (let r = 0; r + 1 < ids.length - WINDOW_FROM; r++) {
      const row = (scores: Float32Array | undefined) =>
        scores!.subarray(r * vocabulary, (r + 1) * vocabulary);
      f16.add(row(truth), row(ofShipped));
      int8.add(row(truth), row(ofInt8));
      int8Alone.add(row(truth), row(ofInt8Alone));
    }
  }
  expect(f16.means().divergence).toBeLessThanOrEqual(LLAMA_CPP.divergence);
  expect(f16.means().sameChoice).toBeGreaterThanOrEqual(LLAMA_CPP.sameChoice);
  expect(int8.means().divergence).toBeLessThan(INT8_KV.divergence);
  expect(int8.means().sameChoice).toBeGreaterThan(INT8_KV.sameChoice);
  expect(int8Alone.means().divergence).toBeLessThan(INT8_KV_ALONE.divergence);
  expect(int8Alone.means().sameChoice).toBeGreaterThan(INT8_KV_ALONE.sameChoice);
}, 900_000);

test("after every prefix of the true continuations the exact mode chooses as the truth does, but for ties", () => {
  const { vocabulary } = exact.limits;
  for (const { prompt_ids, output_ids, margins } of greedy) {
    const scores = exact.score(
      Uint32Array.from([...prompt_ids, ...output_ids.slice(0, -1)]),
      prompt_ids.length - 1,
    );
    for (const [i, id] of output_ids.entries()) {
      const row = scores.subarray(i * vocabulary, (i + 1) * vocabulary);
      if (argmax(row) !== id) expect(margins[i]!).toBeLessThan(TIE);
    }
  }
}, 600_000);

test.each([0, 13, 27])(
  "the exact mode writes continuation %d out to its end",
  (index) => {
    const { prompt_ids, output_ids, margins } = greedy[index]!;
    // The choice is only fixed up to the first tie.
    const tie = margins.findIndex((margin) => margin < TIE);
    const certain = output_ids.slice(0, tie < 0 ? output_ids.length : tie);
    const how = sampling({ stopIds: [2] });
    expect(generate(exact, Uint32Array.from(prompt_ids), certain.length, how).tokens).toEqual(certain);
  },
  120_000,
);
