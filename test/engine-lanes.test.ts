import { Worker } from "node:worker_threads";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { SequenceHandle } from "../dist/engine/engine.js";
import {
  closeEngine,
  type EngineInfo,
  engineKv,
  NativeLane,
  openEngine,
} from "../dist/engine/native-engine.js";
import { compute, generate, sampling } from "./generate.js";
import { ModelDirectory, TINY, tinyModel } from "./tiny-model.js";

/** Lanes, sequences and the pool that they share: who owns what, and that nothing is ever lost. */

const directory = new ModelDirectory();
const KV_TOKENS = 1024;
/** Room for four lanes of the worker test, so that none has to wait for another's blocks. */
const ROOMY_KV_TOKENS = 8192;
let path: string;
let engine: EngineInfo;

const worker = new URL("engine-lane-worker.mjs", import.meta.url);

const coded = (code: string) => expect.objectContaining({ code }) as unknown as Error;
const open = (lane: number, role: "prefill" | "decode" = "decode") =>
  new NativeLane({ engine, lane, role, maxRows: 8, maxBatchTokens: 128 });
const ids = (length: number, from = 0) =>
  Uint32Array.from({ length }, (_, i) => (from + i * 7) % TINY.vocabulary);

beforeAll(() => {
  path = directory.write(tinyModel());
  engine = openEngine({ path, kvTokens: KV_TOKENS });
});

afterAll(() => {
  closeEngine(engine.id);
  directory.dispose();
});

function expectNothingUsed(of = engine): void {
  const { totalBlocks, freeBlocks, cachedBlocks, usedBlocks, sequences } = engineKv(of.id);
  expect({ usedBlocks, sequences }).toEqual({ usedBlocks: 0, sequences: 0 });
  expect(freeBlocks + cachedBlocks).toBe(totalBlocks);
}

describe("sequences", () => {
  let lane: NativeLane;
  beforeAll(() => {
    lane = open(0);
  });
  afterAll(() => {
    lane.close();
    expectNothingUsed();
  });

  test("a handle outlives its sequence harmlessly", () => {
    const { handle } = lane.createSequence(ids(3), 3, sampling());
    lane.release(handle);
    lane.release(handle);
    expect(() => lane.length(handle)).toThrowError(coded("stale_handle"));
    expect(() => lane.adopt(handle)).toThrowError(coded("stale_handle"));
    expect(() => lane.handOver(handle, 1)).toThrowError(coded("stale_handle"));
    const row = { sequence: handle, tokens: [1], drafts: 0, sample: true };
    expect(() => lane.submit([row])).toThrowError(coded("stale_handle"));
    const next = lane.createSequence(ids(3), 3, sampling()).handle;
    expect(next.index).toBe(handle.index);
    expect(next.epoch).not.toBe(handle.epoch);
    lane.release(handle);
    expect(lane.length(next)).toBe(0);
    lane.release(next);
  });

  test("a prefix is shared up to the block before the last token, and stays cached", () => {
    const prompt = ids(96, 5);
    const first = lane.createSequence(prompt, 96, sampling());
    expect(first.cachedTokens).toBe(0);
    compute(lane, first.handle, prompt, 40);
    const second = lane.createSequence(prompt, 96, sampling());
    expect(second.cachedTokens).toBe(64);
    expect(lane.kv().usedBlocks).toBe(3);
    lane.release(first.handle);
    lane.release(second.handle);
    expect(lane.kv().cachedBlocks).toBeGreaterThanOrEqual(3);
    const longer = lane.createSequence(Uint32Array.from([...prompt, 1]), 97, sampling());
    expect(longer.cachedTokens).toBe(96);
    lane.release(longer.handle);
    const otherwise = Uint32Array.from(prompt);
    otherwise[0] = 50;
    const foreign = lane.createSequence(otherwise, 96, sampling());
    expect(foreign.cachedTokens).toBe(0);
    lane.release(foreign.handle);
  });

  test("the pool refuses what does not fit, and nothing has changed", () => {
    const filler: SequenceHandle[] = [];
    for (let i = 0; i < KV_TOKENS / 128; i++) {
      const { handle } = lane.createSequence(ids(1, i), 1, sampling());
      compute(lane, handle, ids(128, i + 11), 128);
      filler.push(handle);
    }
    const before = lane.kv();
    expect(before.freeBlocks + before.cachedBlocks).toBe(0);
    const { handle } = lane.createSequence(ids(40), 40, sampling());
    const row = { sequence: handle, tokens: ids(40), drafts: 0, sample: true };
    expect(() => lane.submit([row])).toThrowError(coded("kv_exhausted"));
    const asked = { sequences: before.sequences + 1, prefixMisses: before.prefixMisses + 1 };
    expect(lane.kv()).toEqual({ ...before, ...asked });
    expect(lane.length(handle)).toBe(0);
    lane.release(filler.pop()!);
    expect(lane.submit([row]).collect().rows[0]!.tokens).toHaveLength(1);
    for (const each of [...filler, handle]) lane.release(each);
  });

  test("a sequence released during its step goes when the step has ended", () => {
    const { handle } = lane.createSequence(ids(20), 20, sampling());
    const job = lane.submit([{ sequence: handle, tokens: ids(20), drafts: 0, sample: true }]);
    lane.release(handle);
    expect(() => lane.length(handle)).toThrowError(coded("stale_handle"));
    expect(job.collect().rows[0]!.tokens).toHaveLength(1);
    expect(lane.kv().sequences).toBe(0);
  });

  test("a prompt or a step beyond the context is refused", () => {
    expect(() => lane.createSequence(ids(TINY.context + 1), 1, sampling())).toThrowError(
      coded("native_argument_invalid"),
    );
    const { handle, cachedTokens } = lane.createSequence(ids(TINY.context), TINY.context, sampling());
    compute(lane, handle, ids(TINY.context).subarray(cachedTokens), 128);
    expect(() => lane.submit([{ sequence: handle, tokens: [1], drafts: 0, sample: true }])).toThrowError(
      coded("native_argument_invalid"),
    );
    lane.release(handle);
  });

  test("bad batches are refused and the lane goes on", () => {
    const { handle } = lane.createSequence(ids(4), 4, sampling());
    const row = { sequence: handle, tokens: [1, 2], drafts: 0, sample: true };
    const bad = [
      [],
      [row, row],
      [{ ...row, tokens: [] }],
      [{ ...row, tokens: [TINY.vocabulary] }],
      [{ ...row, tokens: [-1] }],
      [{ ...row, drafts: 2 }],
      [{ ...row, drafts: -1 }],
      [{ ...row, drafts: 1, sample: false }],
      [{ ...row, tokens: new Uint32Array(129) }],
      Array.from({ length: 9 }, () => row),
    ];
    for (const rows of bad) expect(() => lane.submit(rows)).toThrowError(coded("native_argument_invalid"));
    const job = lane.submit([row]);
    expect(() => lane.submit([row])).toThrowError(coded("native_argument_invalid"));
    job.collect();
    expect(() => job.collect()).toThrowError(coded("native_argument_invalid"));
    lane.release(handle);
  });

  test("sampling out of range is refused", () => {
    const bad = [
      { temperature: Number.NaN },
      { temperature: -1 },
      { topP: 0 },
      { topP: 1.5 },
      { topK: -1 },
      { topK: 0.5 },
      { minP: 2 },
      { repetitionPenalty: 0 },
      { repetitionPenalty: 1e-30 },
      { presencePenalty: Number.POSITIVE_INFINITY },
      { seed: -1 },
      { seed: 2 ** 60 },
      { logprobs: 21 },
      { stopIds: [TINY.vocabulary] },
      { logitBias: new Map([[TINY.vocabulary, 1]]) },
      { logitBias: new Map([[1, Number.NaN]]) },
    ];
    for (const changes of bad) {
      expect(() => lane.createSequence(ids(2), 2, sampling(changes))).toThrowError(
        coded("native_argument_invalid"),
      );
    }
  });

  test("stop ids end a row, are not drawn before minTokens, and bias decides", () => {
    const how = sampling({ stopIds: [9], logitBias: new Map([[9, 1000]]) });
    expect(generate(lane, ids(3), 5, how).tokens).toEqual([9]);
    const later = generate(lane, ids(3), 5, { ...how, minTokens: 3 });
    expect(later.tokens).toHaveLength(4);
    expect(later.tokens.indexOf(9)).toBe(3);
  });
});

test("a step that fails leaves its sequences as they were, penalties and all", () => {
  // One token's embedding is not a number, so every step that it is in fails.
  const poison = TINY.vocabulary - 1;
  const values = Float32Array.from({ length: TINY.vocabulary * TINY.embedding }, (_, i) =>
    Math.floor(i / TINY.embedding) === poison ? Number.NaN : 0.15 * Math.sin(i),
  );
  const model = tinyModel({
    untied: true,
    without: "token_embd.weight",
    extraTensors: [
      {
        name: "token_embd.weight",
        shape: [TINY.embedding, TINY.vocabulary],
        format: "F32",
        bytes: new Uint8Array(values.buffer),
      },
    ],
  });
  const poisoned = openEngine({ path: directory.write(model), kvTokens: KV_TOKENS });
  const lane = new NativeLane({ engine: poisoned, lane: 0, role: "decode", maxRows: 8, maxBatchTokens: 64 });
  const logitBias = new Map([[poison, -1000]]);
  const how = sampling({ repetitionPenalty: 1.2, frequencyPenalty: 0.5, presencePenalty: 0.5, logitBias });
  const prompt = ids(5);
  const alone = generate(lane, prompt, 24, how).tokens;
  const { handle } = lane.createSequence(prompt, prompt.length, how);
  const neighbour = lane.createSequence(Uint32Array.of(1), 1, sampling()).handle;
  const tokens: number[] = [];
  while (tokens.length < alone.length) {
    const row = {
      sequence: handle,
      tokens: tokens.length ? [tokens.at(-1)!] : prompt,
      drafts: 0,
      sample: true,
    };
    const bad = { sequence: neighbour, tokens: [poison], drafts: 0, sample: true };
    expect(() => lane.submit([row, bad]).collect()).toThrowError(coded("model_file_invalid"));
    expect(lane.length(neighbour)).toBe(0);
    tokens.push(...lane.submit([row]).collect().rows[0]!.tokens);
  }
  expect(tokens).toEqual(alone);
  lane.close();
  expectNothingUsed(poisoned);
  closeEngine(poisoned.id);
});

describe("ownership", () => {
  test("exactly one lane may touch a sequence; reopening a lane reclaims what it had and was handed", () => {
    const a = open(0, "prefill");
    const b = open(1);
    const prompt = ids(40);
    const { handle: handed, cachedTokens } = a.createSequence(prompt, 40, sampling());
    compute(a, handed, prompt.subarray(cachedTokens), 64);
    expect(() => b.length(handed)).toThrowError(coded("stale_handle"));
    expect(() => b.adopt(handed)).toThrowError(coded("stale_handle"));
    const kept = a.createSequence(prompt, 40, sampling()).handle;
    a.handOver(handed, 1);
    expect(() => a.length(handed)).toThrowError(coded("stale_handle"));
    b.adopt(handed);
    expect(b.length(handed)).toBe(40);
    const limbo = a.createSequence(prompt, 40, sampling()).handle;
    expect(a.length(limbo)).toBe(32);
    a.handOver(limbo, 1);
    expect(engineKv(engine.id).sequences).toBe(3);
    // The lane dies with one sequence adopted and one on its way to it.
    const reborn = open(1);
    expect(engineKv(engine.id).sequences).toBe(1);
    expect(() => reborn.adopt(limbo)).toThrowError(coded("stale_handle"));
    expect(() => b.length(handed)).toThrowError(coded("stale_handle"));
    expect(a.length(kept)).toBe(32);
    a.close();
    a.close();
    b.close();
    reborn.close();
    expectNothingUsed();
  });

  test("what a lane handed over before it died is its heir's to adopt, or to give back unheard of", () => {
    const a = open(0, "prefill");
    const b = open(1);
    const [told, untold] = [1, 2].map(() => a.createSequence(ids(40), 40, sampling()).handle);
    a.handOver(told!, 1);
    a.handOver(untold!, 1);
    b.releaseStranded();
    expect(engineKv(engine.id).sequences).toBe(2);
    const reborn = open(0, "prefill");
    b.adopt(told!);
    const fresh = reborn.createSequence(ids(40), 40, sampling()).handle;
    reborn.handOver(fresh, 1);
    reborn.releaseStranded();
    expect(engineKv(engine.id).sequences).toBe(3);
    b.releaseStranded();
    expect(engineKv(engine.id).sequences).toBe(2);
    expect(() => b.adopt(untold!)).toThrowError(coded("stale_handle"));
    b.adopt(fresh);
    for (const lane of [a, b, reborn]) lane.close();
    expectNothingUsed();
  });

  test("any order of operations on two lanes keeps the counts whole", () => {
    const operation = fc.record({
      kind: fc.constantFrom("create", "step", "release", "handOver", "adopt", "reopen", "releaseStranded"),
      lane: fc.integer({ min: 0, max: 1 }),
      pick: fc.nat(20),
      size: fc.integer({ min: 1, max: 100 }),
    });
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 40 }), (operations) => {
        const lanes = [open(0), open(1)];
        const known: SequenceHandle[] = [];
        for (const { kind, lane: index, pick, size } of operations) {
          const lane = lanes[index]!;
          const sequence = known[pick % Math.max(known.length, 1)];
          try {
            if (kind === "create") known.push(lane.createSequence(ids(size), size, sampling()).handle);
            if (kind === "releaseStranded") lane.releaseStranded();
            if (kind === "reopen") lanes[index] = open(index);
            if (sequence && kind === "step") {
              lane.submit([{ sequence, tokens: ids(size), drafts: 0, sample: size % 2 === 0 }]).collect();
            }
            if (sequence && kind === "release") lane.release(sequence);
            if (sequence && kind === "handOver") lane.handOver(sequence, 1 - index);
            if (sequence && kind === "adopt") lane.adopt(sequence);
          } catch (error) {
            expect(["stale_handle", "kv_exhausted", "native_argument_invalid"]).toContain(
              (error as { code: string }).code,
            );
          }
          const { totalBlocks, freeBlocks, cachedBlocks, usedBlocks } = lane.kv();
          expect(freeBlocks + cachedBlocks + usedBlocks).toBe(totalBlocks);
        }
        for (const lane of lanes) lane.close();
        expectNothingUsed();
      }),
      { numRuns: 60 },
    );
  });
});

describe("threads", () => {
  test("workers terminated at any point of a step, a thousand times: the process lives, no block is lost", async () => {
    const roomy = openEngine({ path, kvTokens: ROOMY_KV_TOKENS });
    const rounds = 1000;
    const together = 4;
    let inStep = 0;
    const one = async (lane: number, round: number) => {
      // Whether the step was collected, abandoned or never begun when the end came depends on the round.
      const thread = new Worker(worker, { workerData: { engine: roomy, lane, collects: round % 3 } });
      const told = await new Promise((resolve, reject) => {
        thread.once("message", resolve);
        thread.once("error", reject);
      });
      if (told === "stepping") inStep++;
      await thread.terminate();
    };
    for (let round = 0; round < rounds; round += together) {
      await Promise.all(Array.from({ length: together }, (_, lane) => one(lane, round + lane)));
      if (round % 100 === 0) expectNothingUsed(roomy);
    }
    expect(inStep).toBe(rounds);
    expectNothingUsed(roomy);
    const lane = new NativeLane({ engine: roomy, lane: 0, role: "decode", maxRows: 8, maxBatchTokens: 128 });
    expect(generate(lane, ids(10), 5, sampling()).tokens).toHaveLength(5);
    lane.close();
    closeEngine(roomy.id);
  }, 300_000);
});

test("a lane opened again waits for the step of its terminated thread, which takes nothing from it", async () => {
  // The slowest kernels, so that the step outlasts the thread.
  const slow = openEngine({ path, kvTokens: KV_TOKENS, exact: true, instructionSet: "portable", threads: 1 });
  const prompt = ids(40);
  for (let round = 0; round < 5; round++) {
    const thread = new Worker(worker, { workerData: { engine: slow, lane: 3, collects: 0 } });
    await new Promise((resolve) => thread.once("message", resolve));
    let exited = false;
    const exit = thread.terminate().then(() => {
      exited = true;
    });
    let mine: { lane: NativeLane; handle: SequenceHandle } | undefined;
    while (!exited) {
      const lane = new NativeLane({ engine: slow, lane: 3, role: "decode", maxRows: 8, maxBatchTokens: 64 });
      mine = { lane, handle: lane.createSequence(prompt, prompt.length, sampling()).handle };
      for (let turn = 0; turn < 5 && !exited; turn++) {
        await new Promise((resolve) => setImmediate(resolve));
        expect(lane.length(mine.handle)).toBeGreaterThanOrEqual(0);
      }
    }
    await exit;
    mine?.lane.close();
    expectNothingUsed(slow);
  }
  closeEngine(slow.id);
});

describe("engines", () => {
  test("an engine closed under an open lane goes with the lane", () => {
    const short = openEngine({ path, kvTokens: 64 });
    const lane = new NativeLane({ engine: short, lane: 0, role: "decode", maxRows: 1, maxBatchTokens: 8 });
    closeEngine(short.id);
    closeEngine(short.id);
    expect(lane.score(Uint32Array.of(1)).length).toBe(TINY.vocabulary);
    lane.close();
    expect(
      () => new NativeLane({ engine: short, lane: 0, role: "decode", maxRows: 1, maxBatchTokens: 8 }),
    ).toThrowError(coded("native_argument_invalid"));
  });

  test.each([
    [{ kvTokens: 1 }],
    [{ kvTokens: -1 }],
    [{ kvTokens: 2 ** 31 }],
    [{ kvTokens: Number.NaN }],
    [{ blockTokens: 16 }],
    [{ threads: 1e6 }],
    [{ contextTokens: 1e6 }],
    [{ instructionSet: "quantum" }],
  ])("%o is refused", (changes) => {
    expect(() => openEngine({ path, kvTokens: 64, ...changes })).toThrowError(
      coded("native_argument_invalid"),
    );
  });

  test("more KV than the machine has memory is refused", () => {
    expect(() => openEngine({ path: directory.write(tinyModel()), kvTokens: 2 ** 30 })).toThrowError(
      coded("out_of_memory"),
    );
  });

  test.each([
    [0, 8],
    [8, 0],
    [1e9, 8],
    [8, 1e9],
  ])("a lane of %d rows and %d tokens is refused", (maxRows, maxBatchTokens) => {
    expect(() => new NativeLane({ engine, lane: 0, role: "decode", maxRows, maxBatchTokens })).toThrowError(
      coded("native_argument_invalid"),
    );
  });
});
