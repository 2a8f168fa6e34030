import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { calibrate } from "../dist/actors/calibrate.js";
import { deployment } from "../dist/actors/deployment.js";
import type { RouterOptions } from "../dist/actors/router.js";
import { stepCostPriors } from "../dist/actors/step-cost-priors.js";
import { configSchema } from "../dist/config/schema.js";
import { PROVISIONAL_CPU, stepMs } from "../dist/engine/simulated-cost.js";
import { SimulatedEngine } from "../dist/engine/simulated-house.js";
import { StepCost, type StepCostPrior, type StepShape } from "../dist/policy/step-cost.js";
import { StepTimes } from "../dist/policy/step-times.js";

/** A knot for each number of tokens that a panel may have. */
const PANELS = [...Array.from({ length: 32 }, (_, i) => i + 1), 64, 128, 256];

const PRIOR: StepCostPrior = {
  points: PANELS.map((tokens) => ({ tokens, ms: 5 + 0.7 * tokens })),
  contextMs: 0.5,
  attendMs: 0.1,
  rowMs: 0.05,
  sharedFactor: 1.5,
  forgetting: 0.999,
};

/** Deterministic numbers from 0 to 1. */
function noise(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Steps of decode lanes: rows with drafts over some context. */
function shapes(count: number, seed: number): StepShape[] {
  const next = noise(seed);
  return Array.from({ length: count }, () => {
    const rows = 1 + Math.floor(next() * 8);
    const tokens = rows + Math.floor(next() * 24);
    return { rows, tokens, contextTokens: Math.floor(rows * next() * 500) };
  });
}

/** The panels of a real engine: dearer just below a change of kernel than behind it. */
function truth({ tokens, contextTokens, rows }: StepShape): number {
  const panels = tokens < 8 ? 2.5 + 0.75 * tokens : 2 + 0.52 * tokens;
  return panels + (1.2 * contextTokens) / 1000 + 0.1 * rows;
}

describe("step cost", () => {
  test("finds the cost of steps it has seen the like of, within some hundred steps", () => {
    const cost = new StepCost(PRIOR);
    for (const shape of shapes(400, 1)) cost.observe(shape, truth(shape));
    for (const shape of shapes(50, 2)) {
      expect(Math.abs(cost.predict(shape) / truth(shape) - 1)).toBeLessThan(0.08);
    }
    expect(cost.error).toBeLessThan(0.05);
  });

  test("a machine that turns slower is slower at all sizes within fifty steps, though just one was seen", () => {
    const cost = new StepCost(PRIOR);
    const seen = { tokens: 4, contextTokens: 0, rows: 4 };
    const other = { tokens: 32, contextTokens: 0, rows: 4 };
    for (let i = 0; i < 100; i++) cost.observe(seen, 8);
    const before = cost.predict(other);
    for (let i = 0; i < 50; i++) cost.observe(seen, 12);
    expect(cost.predict(seen)).toBeGreaterThan(11.5);
    expect(cost.predict(other) / before).toBeGreaterThan(1.3);
  });

  test("one step that was held up changes little", () => {
    const cost = new StepCost(PRIOR);
    const shape = { tokens: 4, contextTokens: 0, rows: 1 };
    for (let i = 0; i < 100; i++) cost.observe(shape, 9);
    cost.observe(shape, 900);
    expect(cost.predict(shape)).toBeLessThan(10);
  });

  test("tells steps beside the other kind of lane from steps alone", () => {
    const cost = new StepCost(PRIOR);
    const shape = { tokens: 4, contextTokens: 0, rows: 1 };
    for (let i = 0; i < 400; i++) cost.observe({ ...shape, shared: i % 2 }, i % 2 === 0 ? 9 : 18);
    expect(cost.predict(shape)).toBeCloseTo(9, 0);
    expect(cost.predict({ ...shape, shared: 1 })).toBeGreaterThan(16);
    expect(cost.predict({ ...shape, shared: 0.5 })).toBeLessThan(15);
  });

  test("stays finite and positive whatever it is shown", () => {
    const step = fc.record({
      tokens: fc.integer({ min: 1, max: 512 }),
      contextTokens: fc.nat(100_000),
      rows: fc.integer({ min: 1, max: 64 }),
      shared: fc.double({ min: 0, max: 1, noNaN: true }),
      ms: fc.double({ min: 0, max: 1e4, noNaN: true }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
        const cost = new StepCost(PRIOR);
        for (const { ms, ...shape } of steps) cost.observe(shape, ms);
        const predicted = cost.predict({ tokens: 8, contextTokens: 1000, rows: 2 });
        expect(Number.isFinite(predicted)).toBe(true);
        expect(predicted).toBeGreaterThan(0);
      }),
    );
  });

  test("travels in a message", () => {
    const cost = new StepCost(PRIOR);
    for (const shape of shapes(50, 3)) cost.observe(shape, truth(shape));
    const read = StepTimes.fromArray(cost.times.toArray());
    for (const shape of shapes(20, 4)) {
      const predicted = cost.predict({ ...shape, shared: 0.3 });
      expect(Math.abs(read!.predict({ ...shape, shared: 0.3 }) / predicted - 1)).toBeLessThan(1e-5);
    }
    expect(StepTimes.fromArray([1, 2])).toBeUndefined();
    expect(StepTimes.fromArray(new Float32Array(0))).toBeUndefined();
  });
});

describe("calibration", () => {
  const engine = () =>
    new SimulatedEngine({
      model: { seed: 1, vocabulary: 50, draftability: 0 },
      cost: PROVISIONAL_CPU,
      contextTokens: 128,
      blockTokens: 16,
      totalBlocks: 4,
    });

  test("times each size that lane and pool take, and leaves nothing behind", () => {
    const lane = engine().open(0, { maxRows: 4, maxBatchTokens: 96 });
    for (const role of ["decode", "prefill"] as const) {
      const { points } = calibrate(lane, role, 1000);
      // Four blocks hold 64 tokens.
      expect(points.at(-1)!.tokens).toBe(64);
      for (const { tokens, ms } of points) {
        expect(ms).toBeCloseTo(stepMs(PROVISIONAL_CPU, 1, tokens, (tokens * tokens) / 2), 6);
      }
      expect(lane.kv().sequences).toBe(0);
    }
  });

  test("finds what context and rows add, and leaves nothing behind", () => {
    const cost = { ...PROVISIONAL_CPU, readMs: 0.002 };
    const roomy = new SimulatedEngine({
      model: { seed: 1, vocabulary: 50, draftability: 0 },
      cost,
      contextTokens: 512,
      blockTokens: 16,
      totalBlocks: 64,
    });
    const lane = roomy.open(0, { maxRows: 8, maxBatchTokens: 256 });
    const decode = calibrate(lane, "decode", 10_000).more!;
    expect(decode.contextMs).toBeCloseTo(1000 * (cost.readMs + cost.contextMs), 1);
    expect(decode.rowMs).toBeCloseTo(cost.rowMs, 1);
    const prefill = calibrate(lane, "prefill", 10_000).more!;
    expect(prefill.attendMs).toBeCloseTo(1000 * cost.contextMs, 1);
    expect(lane.kv().sequences).toBe(0);
    const config = configSchema.parse({});
    const { contextMs, attendMs, rowMs } = stepCostPriors(config, {
      decode: {
        points: [
          { tokens: 1, ms: 3.1 },
          { tokens: 2, ms: 3.6 },
        ],
        more: { contextMs: 2, rowMs: 1000 },
      },
    }).decode;
    expect(contextMs).toBe(2);
    // What was not timed is assumed, and what can't be is not believed.
    expect(attendMs).toBeCloseTo(config.stepCost.attendMs);
    expect(rowMs).toBeCloseTo(4 * config.stepCost.rowMs);
  });

  test("is what the router assumes of lanes that have not reported, too", () => {
    const points = [
      { tokens: 1, ms: 4 },
      { tokens: 101, ms: 24 },
    ];
    const guard = (calibrations: object) => {
      const facts = { totalBlocks: 64, blockTokens: 16, engine: {}, calibrations };
      const { actors } = deployment(configSchema.parse({}), facts);
      return (actors.find(({ name }) => name === "router")!.options as RouterOptions).guard;
    };
    const more = { contextMs: 1.5, rowMs: 0.06 };
    const { prefillPace, decodePace } = guard({ prefill: { points }, decode: { points, more } });
    expect(prefillPace.fixedMs).toBeCloseTo(3.8);
    expect(prefillPace.firstMs).toBeCloseTo(200);
    expect(decodePace.fixedMs).toBeCloseTo(3.8);
    expect(decodePace.firstMs).toBeCloseTo(0.26);
    expect(decodePace.secondMs).toBeCloseTo(1.5);
    const { fixedMs, tokenMs, contextMs } = configSchema.parse({}).stepCost;
    expect(guard({}).prefillPace.fixedMs).toBeCloseTo(fixedMs);
    expect(guard({}).prefillPace.firstMs).toBeCloseTo(1000 * tokenMs);
    expect(guard({}).decodePace.secondMs).toBeCloseTo(contextMs);
  });

  test("leaves out what lane and pool have no room for", () => {
    const small = engine().open(0, { maxRows: 4, maxBatchTokens: 24 });
    expect(calibrate(small, "decode", 1000).more).toEqual({});
    expect(calibrate(small, "prefill", 1000).more).toEqual({});
    expect(small.kv().sequences).toBe(0);
  });

  test("gives two sizes even when there is no time", () => {
    const lane = engine().open(0, { maxRows: 4, maxBatchTokens: 96 });
    expect(calibrate(lane, "decode", 0).points.map(({ tokens }) => tokens)).toEqual([1, 2]);
  });
});
