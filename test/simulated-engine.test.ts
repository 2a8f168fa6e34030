import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { GREEDY, type Sampling, type SequenceHandle, type StepRow } from "../dist/engine/engine.js";
import { PROVISIONAL_CPU } from "../dist/engine/simulated-cost.js";
import type { SimulatedLane } from "../dist/engine/simulated-engine.js";
import { SimulatedEngine } from "../dist/engine/simulated-house.js";
import { answerOf, type SimulatedModel } from "../dist/engine/simulated-model.js";
import { StreamServeError } from "../dist/errors.js";
import { checkPool } from "../dist/simulate/pool-check.js";

const MODEL: SimulatedModel = { seed: 11, vocabulary: 97, draftability: 0.7 };

function engineOf(totalBlocks = 64, blockTokens = 4): SimulatedEngine {
  return new SimulatedEngine({
    model: MODEL,
    cost: PROVISIONAL_CPU,
    contextTokens: 256,
    blockTokens,
    totalBlocks,
  });
}

const LIMITS = { maxRows: 8, maxBatchTokens: 64 };

function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    return error instanceof StreamServeError ? error.code : String(error);
  }
  return "none";
}

/** Prefills in chunks and decodes with drafts, right and wrong ones; returns ids and log-probabilities. */
function generate(
  lane: SimulatedLane,
  prompt: Uint32Array,
  outputFrom: number,
  sampling: Sampling,
  maxTokens: number,
  chunk: number,
  draftsAt: (produced: readonly number[]) => number[],
) {
  const { handle, cachedTokens } = lane.createSequence(prompt, outputFrom, sampling);
  const ids: number[] = [];
  const logprobs: number[] = [];
  let stopped = false;
  let row: StepRow = { sequence: handle, tokens: [], drafts: 0, sample: false };
  for (let at = cachedTokens; at < prompt.length; at += chunk) {
    const tokens = prompt.subarray(at, at + chunk);
    row = { sequence: handle, tokens, drafts: 0, sample: at + chunk >= prompt.length };
    const result = lane.submit([row]).collect().rows[0]!;
    ids.push(...result.tokens);
    logprobs.push(...result.logprobs);
    stopped = result.stopped;
  }
  while (ids.length < maxTokens && !stopped) {
    const drafts = draftsAt(ids).slice(0, maxTokens - ids.length - 1);
    row = { sequence: handle, tokens: [ids.at(-1)!, ...drafts], drafts: drafts.length, sample: true };
    const result = lane.submit([row]).collect().rows[0]!;
    expect(result.tokens.length).toBe(result.accepted + 1);
    ids.push(...result.tokens);
    logprobs.push(...result.logprobs);
    stopped = result.stopped;
  }
  lane.release(handle);
  return { ids, logprobs };
}

describe("the simulated engine", () => {
  it("answers as the direct function does, whatever the chunks, drafts, cached prefixes and resumption", () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(MODEL.vocabulary - 1), { minLength: 1, maxLength: 40 }),
        fc.record({
          chunk: fc.integer({ min: 1, max: 20 }),
          depth: fc.integer({ min: 0, max: 5 }),
          wrongFrom: fc.integer({ min: 0, max: 5 }),
          seed: fc.nat(),
          resumeAt: fc.integer({ min: 1, max: 20 }),
        }),
        (prompt, { chunk, depth, wrongFrom, seed, resumeAt }) => {
          const sampling: Sampling = {
            ...GREEDY,
            seed,
            temperature: 1,
            stopIds: [3],
            minTokens: 5,
            logprobs: 0,
          };
          const truth = answerOf(MODEL, prompt, sampling, 24);
          const lane = engineOf().open(0, LIMITS);
          const drafts = (ids: readonly number[]) =>
            Array.from({ length: depth }, (_, i) => {
              const right = truth.ids[ids.length + i] ?? 0;
              return i < wrongFrom ? right : (right + 1) % MODEL.vocabulary;
            });
          const tokens = Uint32Array.from(prompt);
          const first = generate(lane, tokens, tokens.length, sampling, 24, chunk, drafts);
          expect(first).toEqual({ ids: truth.ids, logprobs: truth.logprobs });
          const again = generate(lane, tokens, tokens.length, sampling, 24, 64, () => []);
          expect(again.ids).toEqual(truth.ids);
          const delivered = truth.ids.slice(0, Math.min(resumeAt, truth.ids.length - 1));
          const resumed = Uint32Array.from([...prompt, ...delivered]);
          const rest = generate(
            lane,
            resumed,
            prompt.length,
            sampling,
            24 - delivered.length,
            chunk,
            () => [],
          );
          expect([...delivered, ...rest.ids]).toEqual(truth.ids);
        },
      ),
      { numRuns: 200 },
    );
  });

  it("answers differently when any parameter or prompt token differs", () => {
    const base: Sampling = { ...GREEDY, temperature: 0.5, logitBias: new Map([[3, 0.25]]) };
    const answer = (sampling: Sampling, prompt = [1, 2, 3]) => answerOf(MODEL, prompt, sampling, 16).logprobs;
    const variants: Sampling[] = [
      { ...base, seed: 1 },
      { ...base, temperature: 0.6 },
      { ...base, topK: 3 },
      { ...base, stopIds: [96] },
      { ...base, logitBias: new Map([[3, 0.5]]) },
      { ...base, presencePenalty: 0.1 },
    ];
    for (const variant of variants) expect(answer(variant)).not.toEqual(answer(base));
    expect(answer(base, [1, 2, 4])).not.toEqual(answer(base));
  });

  it("lets a suffix look-up guess about as often as its draftability says", () => {
    const { ids } = answerOf({ ...MODEL, vocabulary: 4096 }, [5, 6], GREEDY, 4000);
    const successors = new Map<number, number>();
    let seen = 0;
    let right = 0;
    for (let i = 1; i < ids.length; i++) {
      const guess = successors.get(ids[i - 1]!);
      if (guess !== undefined) {
        seen++;
        if (guess === ids[i]) right++;
      }
      successors.set(ids[i - 1]!, ids[i]!);
    }
    expect(seen).toBeGreaterThan(500);
    expect(right / seen).toBeGreaterThan(0.4);
    expect(right / seen).toBeLessThan(0.85);
  });

  it("refuses foreign, stale and unadopted handles, and what a step can't take", () => {
    const engine = engineOf(8);
    const [prefill, decode] = [engine.open(0, LIMITS), engine.open(1, LIMITS)];
    const { handle } = prefill.createSequence(Uint32Array.of(1, 2, 3), 3, GREEDY);
    const row: StepRow = { sequence: handle, tokens: [1, 2, 3], drafts: 0, sample: true };
    expect(codeOf(() => decode.submit([row]))).toBe("stale_handle");
    expect(codeOf(() => decode.adopt(handle))).toBe("stale_handle");
    expect(codeOf(() => prefill.submit([row, row]))).toBe("native_argument_invalid");
    expect(codeOf(() => prefill.submit([{ ...row, tokens: [97] }]))).toBe("native_argument_invalid");
    expect(codeOf(() => prefill.submit([{ ...row, drafts: 3 }]))).toBe("native_argument_invalid");
    expect(codeOf(() => prefill.submit([{ ...row, tokens: new Array(33).fill(0) }]))).toBe("kv_exhausted");
    expect(engine.pool.counts().usedBlocks).toBe(0);
    const job = prefill.submit([row]);
    expect(codeOf(() => prefill.handOver(handle, 1))).toBe("native_argument_invalid");
    job.collect();
    prefill.handOver(handle, 1);
    expect(codeOf(() => prefill.length(handle))).toBe("stale_handle");
    expect(codeOf(() => decode.length(handle))).toBe("stale_handle");
    decode.adopt(handle);
    expect(decode.length(handle)).toBe(3);
    prefill.release(handle);
    expect(decode.length(handle)).toBe(3);
    decode.release(handle);
    expect(codeOf(() => decode.adopt(handle))).toBe("stale_handle");
  });

  it("gives back what a dead lane owned or was handed, after its step", () => {
    const engine = engineOf();
    const [prefill, decode] = [engine.open(0, LIMITS), engine.open(1, LIMITS)];
    const prompt = Uint32Array.from({ length: 9 }, (_, i) => i);
    const [handed, stepping] = [0, 1].map(() => prefill.createSequence(prompt, 9, GREEDY).handle);
    const row = (sequence: SequenceHandle): StepRow => ({
      sequence,
      tokens: prompt,
      drafts: 0,
      sample: true,
    });
    prefill.submit([row(handed!)]).collect();
    prefill.handOver(handed!, 1);
    prefill.submit([row(stepping!)]);
    engine.open(0, LIMITS);
    expect(engine.pool.counts()).toMatchObject({ sequences: 1, usedBlocks: 3 });
    engine.open(1, LIMITS);
    expect(engine.pool.counts()).toMatchObject({ sequences: 0, usedBlocks: 0, cachedBlocks: 2 });
    expect(codeOf(() => decode.adopt(handed!))).toBe("stale_handle");
    expect(checkPool(engine.pool)).toBeUndefined();
  });

  it("keeps its accounts under any order of operations", () => {
    const operation = fc.record({
      kind: fc.constantFrom("create", "step", "release", "handOver", "adopt", "reopen", "releaseInStep"),
      lane: fc.nat(2),
      pick: fc.nat(30),
      prompt: fc.array(fc.nat(2), { minLength: 1, maxLength: 30 }),
    });
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
        const engine = engineOf(24);
        const lanes = [0, 1, 2].map((lane) => engine.open(lane, LIMITS));
        const handles: { handle: SequenceHandle; prompt: number[] }[] = [];
        for (const { kind, lane: number, pick, prompt } of operations) {
          const lane = lanes[number]!;
          const chosen = handles[pick % Math.max(1, handles.length)];
          const held = chosen?.handle ?? { index: 0, epoch: 0 };
          const step = (then: () => void = () => {}) => {
            const job = lane.submit([{ sequence: held, tokens: prompt, drafts: 0, sample: true }]);
            then();
            job.collect();
          };
          const code = codeOf(() => {
            if (kind === "create") {
              handles.push({
                handle: lane.createSequence(Uint32Array.from(prompt), 0, GREEDY).handle,
                prompt,
              });
            } else if (kind === "step") step();
            else if (kind === "releaseInStep") step(() => lane.release(held));
            else if (kind === "release") lane.release(held);
            else if (kind === "handOver") lane.handOver(held, pick % 3);
            else if (kind === "adopt") lane.adopt(held);
            else lanes[number] = engine.open(number, LIMITS);
          });
          expect(["none", "kv_exhausted", "stale_handle", "native_argument_invalid"]).toContain(code);
          expect(checkPool(engine.pool)).toBeUndefined();
          const { totalBlocks, freeBlocks, cachedBlocks, usedBlocks } = engine.pool.counts();
          expect(freeBlocks + cachedBlocks + usedBlocks).toBe(totalBlocks);
        }
        for (let lane = 0; lane < 3; lane++) engine.open(lane, LIMITS);
        expect(checkPool(engine.pool)).toBeUndefined();
        expect(engine.pool.counts()).toMatchObject({ usedBlocks: 0, sequences: 0 });
      }),
      { numRuns: 300 },
    );
  });
});
