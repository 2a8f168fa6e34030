import { describe, expect, test } from "vitest";
import { Random } from "../dist/simulate/random.js";
import { checkHardware, type HardwareProfile } from "../dist/simulate/serving/hardware.js";
import { loadHardware } from "../dist/simulate/serving/load-hardware.js";
import { servingResult } from "../dist/simulate/serving/results.js";
import type { ServingRequest, ServingSetup } from "../dist/simulate/serving/serving.js";
import { simulateServing } from "../dist/simulate/serving/simulate-serving.js";

/** The simulator as a planner's tool: what comes of a workload on given hardware. */

const A800 = loadHardware("a800-7b");

function poisson(count: number, perSecond: number, seed: number, size: (random: Random) => [number, number]) {
  const random = new Random(seed);
  let atMs = 0;
  return Array.from({ length: count }, (_, number): ServingRequest => {
    atMs += random.exponential(1000 / perSecond);
    const [promptTokens, outputTokens] = size(random);
    return {
      atMs,
      promptTokens,
      outputTokens,
      text: () => ({
        prompt: Uint32Array.from({ length: promptTokens }, (_, i) => (number * 7919 + i) % 32_000),
      }),
    };
  });
}

function setup(changes: Partial<ServingSetup> = {}): ServingSetup {
  return {
    hardware: A800,
    pairs: 2,
    settings: { speculation: { maxDepth: 0 } },
    objectives: { ttftMs: 1000, tpotMs: 50 },
    seed: 1,
    ...changes,
  };
}

const mixed = () => poisson(200, 16, 3, (random) => [random.skewed(20, 2000), random.skewed(2, 200)]);

test("equal seeds give equal runs, others do not", () => {
  const run = (seed: number) => simulateServing(setup({ seed }), { requests: mixed() });
  const first = run(5);
  expect(run(5)).toEqual(first);
  expect(run(6).requests).not.toEqual(first.requests);
});

describe("every request ends once", () => {
  test("open loop", () => {
    const { requests } = simulateServing(setup(), { requests: mixed() });
    expect(requests.map(({ outcome }) => outcome)).toEqual(Array(200).fill("done"));
    const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
    expect(sum(requests.map(({ outputTokens }) => outputTokens))).toBe(
      sum(mixed().map(({ outputTokens }) => outputTokens)),
    );
  });

  test("far above capacity, with refusals", () => {
    const settings = {
      speculation: { maxDepth: 0 },
      scheduler: { interactive: { ttftMs: 500, tpotMs: 20 } },
    };
    const requests = poisson(600, 400, 3, () => [1000, 50]);
    const run = simulateServing(setup({ settings }), { requests });
    const result = servingResult(run, { ttftMs: 500, tpotMs: 20 });
    expect(result.refused.overloaded).toBeGreaterThan(0);
    expect(result.completed + Object.values(result.refused).reduce((a, b) => a + b, 0)).toBe(600);
  });

  test("closed loop: as many under way as there are users", () => {
    const requests = poisson(60, 1, 3, () => [100, 20]);
    const run = simulateServing(setup(), { requests, users: 4, thinkMs: 100 });
    expect(run.requests).toHaveLength(60);
    const events = run.requests.flatMap(({ atMs, totalMs }) => [
      { at: atMs, by: 1 },
      { at: atMs + totalMs, by: -1 },
    ]);
    events.sort((a, b) => a.at - b.at || a.by - b.by);
    let under = 0;
    const most = Math.max(...events.map(({ by }) => (under += by)));
    expect(most).toBe(4);
  });
});

test("one lane with a fixed service time waits as M/D/1 does", () => {
  // 50 ms a prompt whatever its size, one at a time, one token each: nothing is decoded.
  const hardware: HardwareProfile = checkHardware(
    {
      ...A800,
      handOff: undefined,
      step: { baseMs: 50, rowMs: 0, tokenMs: 1e-9, contextMs: 0, readMs: 0 },
      config: { prefill: { maxRows: 1, maxBatchTokens: 512 }, router: { directTokens: 0 } },
    },
    "test",
  );
  for (const load of [0.3, 0.6, 0.8]) {
    const requests = poisson(20_000, load * 20, 11, () => [16, 1]);
    const run = simulateServing(setup({ hardware, pairs: 1 }), { requests });
    const { ttftMs } = servingResult(run, { ttftMs: 0, tpotMs: 0 });
    const expected = 50 + (50 * load) / (2 * (1 - load));
    expect(ttftMs.mean / expected).toBeGreaterThan(0.95);
    expect(ttftMs.mean / expected).toBeLessThan(1.05);
  }
}, 60_000);

test("a hand-off takes the time of its bytes, one after another on a link", () => {
  const requests = poisson(50, 0.5, 3, () => [1000, 10]);
  const run = simulateServing(setup({ pairs: 1 }), { requests });
  const { handOffMs } = servingResult(run, { ttftMs: 0, tpotMs: 0 });
  // 1,000 tokens of 512 KiB at 160 GB/s, and 0.05 ms.
  expect(handOffMs).toBeGreaterThan(3.32);
  expect(handOffMs).toBeLessThan(3.4);
});

test("settings that can't be used are named", () => {
  const settings = { router: { policy: "nearest" } } as unknown as ServingSetup["settings"];
  expect(() => simulateServing(setup({ settings: settings ?? {} }), { requests: mixed() })).toThrow(
    expect.objectContaining({ code: "config_invalid", message: expect.stringContaining("router.policy") }),
  );
  expect(() => checkHardware({ ...A800, kvTokens: -1 }, "mine.yaml")).toThrow(/mine.yaml: "kvTokens"/);
});

test("what actors take of the cores lengthens steps and first tokens by that", () => {
  const lanes = { sharedFactor: 1, step: { baseMs: 2, rowMs: 0, tokenMs: 0.2, contextMs: 0, readMs: 0 } };
  const actors = { stepMs: 0.5, tokenMs: 0, requestMs: 3 };
  const lone = (changes: object) => {
    const hardware = checkHardware({ ...A800, handOff: undefined, ...lanes, ...changes }, "test");
    const { requests } = simulateServing(setup({ hardware, pairs: 1 }), {
      requests: poisson(1, 1, 3, () => [100, 50]),
    });
    return requests[0]!;
  };
  const [bare, housed] = [lone({}), lone({ actors })];
  expect(housed.ttftMs - bare.ttftMs).toBeCloseTo(3, 6);
  expect(housed.tpotMs - bare.tpotMs).toBeCloseTo(0.5, 1);
});

test("prefill slows down by its own factor while sequences decode", () => {
  const shared = { ...A800, handOff: undefined, sharedFactor: 1 };
  // The second prompt comes while the first request decodes.
  const second = (prefillSharedFactor: number) => {
    const hardware = checkHardware({ ...shared, prefillSharedFactor }, "test");
    const [first, other] = poisson(2, 1, 3, () => [1000, 400]);
    const requests = [
      { ...first!, atMs: 0 },
      { ...other!, atMs: 1000 },
    ];
    const settings = { speculation: { maxDepth: 0 }, router: { roles: "static" as const } };
    const run = simulateServing(setup({ hardware, pairs: 1, settings }), { requests });
    return run.requests.find(({ atMs }) => atMs > 500)!.ttftMs;
  };
  expect(second(2) / second(1)).toBeCloseTo(2, 1);
});

test("pairs on cores of their own serve more, pairs that share a machine's cores do not", () => {
  // As many users as four pairs have work for.
  const requests = () => poisson(480, 1, 3, () => [400, 40]);
  const seconds = (pairs: number, changes: object) => {
    const hardware = checkHardware({ ...A800, handOff: undefined, ...changes }, "test");
    const run = simulateServing(setup({ hardware, pairs }), { requests: requests(), users: 128 });
    return run.spanMs / 1000;
  };
  const shared = { sharedFactor: 1.6, prefillSharedFactor: 2 };
  expect(seconds(1, {}) / seconds(4, {})).toBeGreaterThan(3);
  expect(seconds(1, shared) / seconds(4, shared)).toBeLessThan(1.3);
});
