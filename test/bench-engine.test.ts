import { expect, test } from "vitest";
import { longContext, shares } from "../dist/bench/engine/findings.js";
import { breakDown } from "../dist/bench/engine/profile.js";
import { profileFindings } from "../dist/bench/engine/profile-findings.js";
import { runOurs } from "../dist/bench/engine/rivals.js";
import { LaneWorkload } from "../dist/bench/engine/workload.js";
import {
  LONG_DECODE,
  MOST_KV_TOKENS,
  MOST_PROMPT_TOKENS,
  MOST_SEQUENCES,
  SHORT_DECODE,
  WORKLOADS,
} from "../dist/bench/engine/workloads.js";
import type { StepRow } from "../dist/engine/engine.js";
import { PROVISIONAL_CPU } from "../dist/engine/simulated-cost.js";
import { SimulatedEngine } from "../dist/engine/simulated-house.js";

const BLOCK_TOKENS = 32;

/** A lane of the size that `bench engine` opens, with the steps that it was given. */
function recordedLane() {
  const engine = new SimulatedEngine({
    model: { seed: 5, vocabulary: 1000, draftability: 0.5 },
    cost: PROVISIONAL_CPU,
    contextTokens: 8192,
    blockTokens: BLOCK_TOKENS,
    totalBlocks: MOST_KV_TOKENS / BLOCK_TOKENS,
  });
  const lane = engine.open(0, { maxRows: MOST_SEQUENCES, maxBatchTokens: MOST_PROMPT_TOKENS });
  const steps: (readonly StepRow[])[] = [];
  const submit = lane.submit.bind(lane);
  lane.submit = (rows) => {
    steps.push(rows);
    return submit(rows);
  };
  return { lane, steps };
}

test("every workload computes the tokens that its rate counts, after one prompt to warm up, and leaves no sequence behind", () => {
  for (const workload of WORKLOADS) {
    const { lane, steps } = recordedLane();
    expect(runOurs(new LaneWorkload(lane), workload)).toBeGreaterThan(0);
    const tokens = steps.flatMap((rows) => rows.map((row) => row.tokens.length));
    const total = tokens.reduce((sum, count) => sum + count, 0);
    // One prompt warms up.
    if (workload.kind === "prefill") expect(total).toBe(2 * workload.tokens);
    else expect(total).toBe(workload.sequences * (workload.promptTokens + workload.outputTokens));
    expect(lane.kv()).toMatchObject({ usedBlocks: 0, sequences: 0 });
  }
});

test("a verification step carries the drafts asked for after the pending token", () => {
  const { lane, steps } = recordedLane();
  expect(new LaneWorkload(lane).verify(8, 64, 5)).toHaveLength(5);
  for (const rows of steps.slice(-5)) {
    expect(rows).toHaveLength(1);
    expect(rows[0]).toMatchObject({ drafts: 8, sample: true });
    expect(rows[0]!.tokens).toHaveLength(9);
  }
  expect(lane.kv().usedBlocks).toBe(0);
});

test("an engine at the machine's limits has shares of one", () => {
  const costs = { weightBytes: 90e6, layerMacs: 100e6, headMacs: 30e6, kvBytesPerToken: 20_000 };
  const ceilings = {
    threads: 2,
    instructionSet: "x",
    mainMemory: 10e9,
    workingSetBytes: 90e6,
    workingSet: 50e9,
    int8: 400e9,
    f32: 100e9,
  };
  const measured = { comparisons: [], verification: [], ceilings, costs, notRun: [] };
  const decode = { kind: "decode", sequences: 4, promptTokens: 100, outputTokens: 200 } as const;
  const bytesAStep = 90e6 + 4 * 200 * 20_000;
  expect(shares(decode, (4 * 50e9) / bytesAStep, measured).memory).toBeCloseTo(1, 9);
  const prefill = { kind: "prefill", tokens: 512 } as const;
  const seconds = (512 * 100e6 + 30e6) / 400e9;
  expect(shares(prefill, 512 / seconds, measured).int8).toBeCloseTo(1, 9);
});

test("decoding with much context is as predicted when time goes with the bytes read", () => {
  const costs = { weightBytes: 80e6, layerMacs: 1, headMacs: 1, kvBytesPerToken: 20_000 };
  // Seconds a step at 1 GB/s, halfway through the answers: 160 and 8,160 tokens of context.
  const shortStep = (80e6 + 160 * 20_000) / 1e9;
  const longStep = (80e6 + 8160 * 20_000) / 1e9;
  const run = (workload: typeof LONG_DECODE, steps: number[]) => ({
    workload,
    ours: steps.map((step) => 1 / step),
    companyCores: 0,
    peers: [],
  });
  const found = (long: number[]) =>
    longContext({
      comparisons: [run(SHORT_DECODE, [shortStep, shortStep, 2 * shortStep]), run(LONG_DECODE, long)],
      verification: [],
      ceilings: {
        threads: 1,
        instructionSet: "",
        mainMemory: 1,
        workingSetBytes: 1,
        workingSet: 1,
        int8: 1,
        f32: 1,
      },
      costs,
      notRun: [],
    });
  const even = found([longStep, longStep, 2 * longStep])!;
  expect(even.ratio).toBeCloseTo(1, 9);
  expect(even.stepMs).toBeCloseTo(even.predictedMs, 9);
  expect(found([1.5 * longStep, 1.5 * longStep, 3 * longStep])!.ratio).toBeCloseTo(1.5, 9);
});

test("a step's breakdown adds up, and leaves out the steps that were disturbed", () => {
  const operation = (name: string, ms: number) => ({
    operation: name,
    regions: 1,
    ms,
    weightBytes: 1e6,
    kvBytes: 0,
    activationBytes: 0,
    int8Macs: 2e6,
    f32Macs: 0,
  });
  const step = (slow: number) => ({
    rows: 1,
    tokens: 1,
    wallMs: 3 * slow + 1,
    computeMs: 3 * slow,
    waitMs: 0.25,
    operations: [operation("a", slow), operation("b", 2 * slow)],
  });
  const broken = breakDown("decode", [step(1), step(100), step(2), step(4)]);
  expect(broken).toMatchObject({ steps: 4, averaged: 2, computeMs: 9, wallMs: 10, waitMs: 0.25 });
  expect(broken.operations.map(({ ms }) => ms)).toEqual([3, 6]);

  const ceilings = {
    threads: 2,
    instructionSet: "none",
    mainMemory: 1e9,
    workingSetBytes: 1e6,
    workingSet: 2e9,
    int8: 4e9,
    f32: 1e9,
  };
  const { tables, figures } = profileFindings([broken], ceilings);
  const rows = tables[1]!.rows;
  expect(rows[0]).toEqual(["a", 3, 30, 1 / 3, expect.closeTo(100 / 6), 2 / 3, expect.closeTo(100 / 6)]);
  const [compute, wait, calls, whole] = rows.slice(2).map((row) => Number(row[1]));
  expect(compute).toBe(9);
  expect(compute! + wait! + calls!).toBeCloseTo(whole!);
  expect(rows.at(-1)!.slice(1)).toEqual([9, 90, NaN, NaN, expect.closeTo(4 / 9), expect.closeTo(100 / 9)]);
  expect(figures[0]).toMatchObject({
    kind: "roofline",
    series: [
      {
        points: [
          { label: "a", x: 2, y: 2 / 3 },
          { label: "b", x: 2, y: 1 / 3 },
        ],
      },
    ],
  });
});
