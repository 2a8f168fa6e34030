import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FlowGuard, type FlowGuardConstants } from "../dist/policy/flow-guard.js";
import { MissedObjectives } from "../dist/policy/missed-objectives.js";
import { Pace } from "../dist/policy/pace.js";
import type { DecodeSignal, PrefillSignal } from "../dist/policy/pair-signals.js";
import { chainOf, PrefixMap } from "../dist/policy/prefix-map.js";

const CONSTANTS = {
  policy: "flowguard" as const,
  fused: false,
  prefillPace: { fixedMs: 10, firstMs: 1000, secondMs: 100 },
  decodePace: { fixedMs: 10, firstMs: 1, secondMs: 1 },
  maxRows: 8,
  stepTokens: 256,
  handOffBlockMs: 0,
  staleMs: 100,
  missingBlockMs: 50,
  nearShare: 0,
  burden: 1,
  firstTokenWeight: 1,
  othersShare: 0.5,
  unevenShare: 0,
  directTokens: 0,
  directCaution: 1,
  balanced: false,
  lendPressure: 2,
  lendSteps: 3,
};
const QUERY = { promptTokens: 100, outputTokens: 50, blocks: 5 };

function guardOf(pairs: number, more: Partial<FlowGuardConstants> = {}): FlowGuard {
  // Each pair has a pool of its own.
  return new FlowGuard(
    pairs,
    { ...CONSTANTS, ...more },
    Array.from({ length: pairs }, (_, i) => i),
  );
}

const NO_STEP = { rows: 0, tokens: 0, contextTokens: 0, ms: 0 };
const prefill = (queuedTokens: number, more: Partial<PrefillSignal> = {}): PrefillSignal => ({
  queuedTokens,
  contextTokens: 0,
  taken: 0,
  ended: 0,
  busyMs: 0,
  keptRows: 0,
  keptContext: 0,
  keptTaken: 0,
  last: NO_STEP,
  lateMs: 0,
  stepForMs: -1,
  ...more,
});
const decode = (rows: number, more: Partial<DecodeSignal> = {}): DecodeSignal => ({
  rows,
  queuedTokens: 0,
  taken: 0,
  last: NO_STEP,
  contextTokens: 0,
  drawnPerRow: 1,
  spareBlocks: 1000,
  stepForMs: -1,
  ...more,
});
const stepOf = (ms: number) => ({ rows: 1, tokens: 1, contextTokens: 0, ms });

/** Routes and accounts for it. */
function route(guard: FlowGuard, now = 0): number | undefined {
  const choice = guard.choose(QUERY, now);
  if (choice) guard.sent(choice.pair, QUERY, now);
  return choice?.pair;
}

describe("FlowGuard", () => {
  test("prefers the pair with less prefill waiting", () => {
    const guard = guardOf(2);
    guard.prefill(0, prefill(5000), 0);
    guard.prefill(1, prefill(10), 0);
    expect(route(guard)).toBe(1);
  });

  test("prefers the pair whose steps are shorter", () => {
    const guard = guardOf(2);
    for (let i = 0; i < 30; i++) {
      guard.decode(0, decode(1, { last: stepOf(30) }), 0);
      guard.decode(1, decode(1, { last: stepOf(10) }), 0);
    }
    expect(route(guard)).toBe(1);
    expect(guard.tokenMs(0) / guard.tokenMs(1)).toBeGreaterThan(2);
  });

  test("avoids a pair without KV headroom", () => {
    const guard = guardOf(2);
    guard.decode(0, decode(1, { spareBlocks: 0 }), 0);
    guard.decode(1, decode(2), 0);
    expect(route(guard)).toBe(1);
  });

  test("does not send a herd to the pair that looked idle: what it sent counts at once", () => {
    const guard = guardOf(4);
    guard.prefill(0, prefill(150), 0);
    const counts = [0, 0, 0, 0];
    for (let i = 0; i < 40; i++) counts[route(guard)!]!++;
    expect(Math.min(...counts)).toBeGreaterThanOrEqual(8);
    expect(Math.max(...counts)).toBeLessThanOrEqual(12);
  });

  test("sends a short prompt straight to the decode lane only past others that wait for prefill", () => {
    fc.assert(
      fc.property(fc.nat(5000), fc.integer({ min: 1, max: 300 }), fc.nat(8), (queued, promptTokens, rows) => {
        const guard = guardOf(1, { directTokens: 128 });
        guard.prefill(0, prefill(queued), 0);
        guard.decode(0, decode(rows), 0);
        const direct = guard.choose({ ...QUERY, promptTokens }, 0)?.direct;
        if (queued === 0 || promptTokens > 128) expect(direct).toBe(false);
      }),
    );
    const guard = guardOf(1, { directTokens: 128 });
    guard.prefill(0, prefill(5000), 0);
    expect(guard.choose(QUERY, 0)?.direct).toBe(true);
  });

  test("the best of many pairs is the better of any two of them", () => {
    const state = fc.record({
      queued: fc.nat(3000),
      rows: fc.nat(30),
      context: fc.nat(50_000),
      spare: fc.integer({ min: 0, max: 40 }),
      lateMs: fc.nat(300),
      cached: fc.nat(100),
    });
    const choice = (states: readonly (typeof state extends fc.Arbitrary<infer S> ? S : never)[]) => {
      const guard = guardOf(states.length, { balanced: true, directTokens: 60 });
      states.forEach(({ queued, rows, context, spare, lateMs }, pair) => {
        guard.prefill(pair, prefill(queued, { lateMs }), 0);
        guard.decode(pair, decode(rows, { contextTokens: context, spareBlocks: spare }), 0);
      });
      return guard.choose({ ...QUERY, cached: states.map(({ cached }) => cached) }, 250)!.pair;
    };
    fc.assert(
      fc.property(fc.array(state, { minLength: 2, maxLength: 12 }), (states) => {
        const best = choice(states);
        states.forEach((other, pair) => {
          if (pair < best) expect(choice([other, states[best]!])).toBe(1);
          if (pair > best) expect(choice([states[best]!, other])).toBe(0);
        });
      }),
    );
  });

  test("counts what it sent only until the lane's report includes it", () => {
    const guard = guardOf(1);
    guard.sent(0, QUERY, 0);
    const before = guard.firstTokenMs(0, QUERY, 0);
    guard.prefill(0, prefill(0, { taken: 100 }), 0);
    expect(guard.firstTokenMs(0, QUERY, 0)).toBeCloseTo(before - 100, 6);
  });

  test("requests that end in prefill do not count as on their way to decode", () => {
    const guard = guardOf(1);
    const idle = guard.tokenMs(0);
    for (let i = 0; i < 50; i++) guard.sent(0, QUERY, 0);
    expect(guard.tokenMs(0)).toBeGreaterThan(idle * 2);
    guard.prefill(0, prefill(0, { taken: 5000, ended: 50 }), 0);
    expect(guard.tokenMs(0)).toBe(idle);
  });

  test("a busy lane that falls silent becomes dearer with time", () => {
    const guard = guardOf(2);
    guard.prefill(0, prefill(100), 0);
    guard.prefill(1, prefill(300), 0);
    expect(guard.choose(QUERY, 0)?.pair).toBe(0);
    guard.prefill(1, prefill(300), 2000);
    expect(guard.choose(QUERY, 2000)?.pair).toBe(1);
  });

  test("a decode lane that stands still in a step becomes dearer with time, whatever else it reports", () => {
    const guard = guardOf(2);
    const chosen = (now: number) => guard.choose(QUERY, now)?.pair;
    guard.decode(0, decode(1, { stepForMs: 0 }), 0);
    guard.decode(1, decode(6, { stepForMs: 0 }), 0);
    expect(chosen(0)).toBe(0);
    guard.decode(1, decode(6, { stepForMs: 0 }), 2000);
    expect(chosen(2000)).toBe(1);
    // A hand-off that it took meanwhile is no sign of life: the step is the same.
    guard.decode(0, decode(2, { taken: 1, stepForMs: 2500 }), 2500);
    guard.decode(1, decode(6, { stepForMs: 0 }), 2500);
    expect(chosen(2500)).toBe(1);
    guard.decode(0, decode(2, { taken: 1, stepForMs: 0 }), 2600);
    expect(chosen(2600)).toBe(0);
  });

  test("a decode lane may be silent while it has nothing to do, or only rows whose readers are slow", () => {
    const guard = guardOf(2);
    guard.decode(0, decode(0), 0);
    guard.decode(1, decode(4, { stepForMs: 0 }), 60_000);
    expect(guard.choose(QUERY, 60_000)?.pair).toBe(0);
    guard.decode(0, decode(2), 0);
    expect(guard.choose(QUERY, 60_000)?.pair).toBe(0);
    expect(guard.tokenMs(0)).toBeLessThan(guard.tokenMs(1));
  });

  test("a decode lane that has nothing to do is to take what is sent to it", () => {
    const answers = (heard: boolean, way: { direct: boolean; keep: boolean }) => {
      const guard = guardOf(2);
      guard.decode(1, decode(6, { stepForMs: 0 }), 0);
      guard.sent(0, QUERY, 0, way);
      // Its prompt is computed, and was handed over.
      guard.prefill(0, prefill(0, { taken: way.direct ? 0 : 100 }), 100);
      if (heard) guard.decode(0, decode(1, { taken: 1, stepForMs: 0 }), 3000);
      guard.decode(1, decode(6, { stepForMs: 0 }), 3000);
      return guard.choose(QUERY, 3000)?.pair;
    };
    for (const way of [
      { direct: false, keep: false },
      { direct: true, keep: false },
    ]) {
      expect(answers(true, way)).toBe(0);
      expect(answers(false, way)).toBe(1);
    }
    // One that is still in the prefill lane, or stays there, is not its to take.
    const guard = guardOf(2);
    guard.decode(1, decode(6, { stepForMs: 0 }), 3000);
    guard.sent(0, QUERY, 2900);
    guard.sent(0, QUERY, 2900, { direct: false, keep: true });
    expect(guard.choose(QUERY, 3000)?.pair).toBe(0);
  });

  test("a prefill lane that stands still in a step becomes dearer, whatever else it reports", () => {
    const guard = guardOf(2);
    guard.prefill(0, prefill(100, { stepForMs: 2000 }), 2000);
    guard.prefill(1, prefill(300, { stepForMs: 0 }), 2000);
    expect(guard.choose(QUERY, 2000)?.pair).toBe(1);
    // Steps may be long: this one is predicted to take all of a second.
    const long = guardOf(2, { stepTokens: 1000 });
    long.prefill(0, prefill(1000, { stepForMs: 900 }), 2000);
    long.prefill(1, prefill(1100, { stepForMs: 0 }), 2000);
    expect(long.choose(QUERY, 2000)?.pair).toBe(0);
  });

  test("never chooses a dead pair, and takes it back when its lane is up or reports", () => {
    const guard = guardOf(2);
    guard.down(0, "decode");
    for (let i = 0; i < 10; i++) expect(route(guard)).toBe(1);
    guard.down(1, "prefill");
    expect(route(guard)).toBeUndefined();
    guard.up(0, "decode");
    expect(route(guard)).toBe(0);
    guard.prefill(1, prefill(0), 0);
    expect([route(guard), route(guard), route(guard)]).toContain(1);
  });

  test("the chosen pair is never worse than another", () => {
    const pair = fc.record({ queued: fc.nat(5000), rows: fc.nat(64), context: fc.nat(50_000) });
    fc.assert(
      fc.property(fc.array(pair, { minLength: 1, maxLength: 20 }), (pairs) => {
        const guard = guardOf(pairs.length, { othersShare: 0 });
        pairs.forEach(({ queued, rows, context }, i) => {
          guard.prefill(i, prefill(queued), 0);
          guard.decode(i, decode(rows, { contextTokens: context }), 0);
        });
        // All have the prompt to compute, so that what it costs later ones is the same everywhere.
        const cost = (i: number) => guard.firstTokenMs(i, QUERY, 0) + QUERY.outputTokens * guard.tokenMs(i);
        const chosen = cost(guard.choose(QUERY, 0)!.pair);
        for (let i = 0; i < pairs.length; i++) expect(chosen).toBeLessThanOrEqual(cost(i) + 1e-6);
      }),
    );
  });

  test("decides among a thousand pairs in microseconds", () => {
    const guard = guardOf(1000);
    for (let i = 0; i < 1000; i++) {
      guard.prefill(i, prefill((i * 7919) % 1000), 0);
      guard.decode(i, decode(i % 8), 0);
    }
    const times: number[] = [];
    for (let i = 0; i < 400; i++) {
      const before = performance.now();
      route(guard);
      times.push(performance.now() - before);
    }
    times.sort((a, b) => a - b);
    // Tens of microseconds on a quiet machine; the bound leaves room for a busy one.
    expect(times[200]).toBeLessThan(0.5);
  });
});

describe("FlowGuard and cached prefixes", () => {
  test("prefers the pair that holds the prefix, but does not pile up on it", () => {
    const guard = guardOf(2);
    const query = { ...QUERY, promptTokens: 1000, cached: [900, 0] };
    expect(guard.choose(query, 0)?.pair).toBe(0);
    guard.prefill(0, prefill(5000), 0);
    expect(guard.choose(query, 0)?.pair).toBe(1);
  });

  test("a cached prefix does not bind requests to a pair where answers are far slower than elsewhere", () => {
    const query = { ...QUERY, promptTokens: 1000, cached: [900, 0, 0, 0, 0, 0, 0, 0] };
    const chosen = (unevenShare: number) => {
      const guard = guardOf(8, { unevenShare });
      guard.decode(0, decode(6, { contextTokens: 25_000 }), 0);
      // The first decision finds out how fast the others are.
      guard.choose(query, 0);
      return guard.choose(query, 0)?.pair;
    };
    expect(chosen(0)).toBe(0);
    expect(chosen(15)).not.toBe(0);
  });

  test("what is found in a cache counts as context from the moment it is sent until the lane has it", () => {
    const guard = guardOf(1);
    const before = guard.tokenMs(0);
    guard.sent(0, { ...QUERY, promptTokens: 1000, cached: [990] }, 0);
    guard.sent(0, { ...QUERY, promptTokens: 1000, cached: [990] }, 0);
    // A row and a thousand tokens of context each, at a millisecond either.
    expect(guard.tokenMs(0)).toBeCloseTo(before + 4, 6);
    guard.prefill(0, prefill(0, { taken: 20, contextTokens: 2000 }), 0);
    expect(guard.tokenMs(0)).toBeCloseTo(before + 4, 6);
    guard.prefill(0, prefill(0, { taken: 20 }), 0);
    expect(guard.tokenMs(0)).toBeCloseTo(before + 2, 6);
  });

  test("a prompt goes where no rows wait for it in the prefill lane", () => {
    const guard = guardOf(2);
    guard.prefill(0, prefill(0, { keptRows: 5, keptTaken: 5 }), 0);
    expect(guard.choose(QUERY, 0)?.pair).toBe(1);
  });

  test("but many rows there, which go back when prompts pile up, do not send all prompts to one lane's queue", () => {
    const guard = guardOf(2);
    guard.prefill(0, prefill(0, { keptRows: 40, keptTaken: 40 }), 0);
    guard.prefill(1, prefill(1000), 0);
    expect(guard.choose(QUERY, 0)?.pair).toBe(0);
  });

  test("speculation that draws more tokens a step makes a pair's tokens cheaper", () => {
    const guard = guardOf(2);
    guard.decode(1, decode(0, { drawnPerRow: 2 }), 0);
    expect(guard.tokenMs(1)).toBeCloseTo(guard.tokenMs(0) / 2, 6);
    expect(route(guard)).toBe(1);
  });

  test("keeps away from a pair whose first tokens come late, until that is long ago", () => {
    const guard = guardOf(2);
    guard.prefill(0, prefill(0, { lateMs: 500 }), 0);
    guard.prefill(1, prefill(100), 0);
    expect(guard.choose(QUERY, 0)?.pair).toBe(1);
    guard.prefill(1, prefill(100), 10_000);
    expect(guard.choose(QUERY, 10_000)?.pair).toBe(0);
  });

  test("keeps away from a pair that misses what was promised and others keep, until that is long ago", () => {
    for (const token of [false, true]) {
      const guard = guardOf(2);
      guard.decode(1, decode(1), 0);
      const chosen = (now: number) => guard.choose(QUERY, now)?.pair;
      expect(chosen(0)).toBe(0);
      for (let i = 0; i < 5; i++) guard.judged(0, token, 1000, true, 0);
      guard.judged(1, token, 1000, false, 0);
      expect(chosen(0)).toBe(1);
      expect(chosen(3_600_000)).toBe(0);
      expect([guard.missedFirst, guard.missedTokens]).toEqual(token ? [0, 5] : [5, 0]);
      // Its successor has missed nothing.
      guard.up(0, token ? "decode" : "prefill");
      expect(chosen(0)).toBe(0);
    }
  });

  test("what all pairs miss alike tells none from another, and a miss in ten weighs a tenth", () => {
    const guard = guardOf(2);
    guard.decode(1, decode(1), 0);
    for (let i = 0; i < 50; i++) for (const pair of [0, 1]) guard.judged(pair, true, 200, true, i);
    expect(guard.choose(QUERY, 50)?.pair).toBe(0);
    const missed = new MissedObjectives(2);
    for (let i = 0; i < 200; i++) missed.observe(0, 200, i % 10 === 0, 0);
    expect(missed.aboveMs(0, 0)).toBeGreaterThan(10);
    expect(missed.aboveMs(0, 0)).toBeLessThan(30);
    expect(missed.aboveMs(1, 0)).toBe(0);
  });

  test("pairs as good as equal take turns", () => {
    const guard = guardOf(3, { nearShare: 0.05 });
    guard.prefill(1, prefill(3), 0);
    expect([0, 0, 0].map(() => guard.choose(QUERY, 0)?.pair)).toEqual([0, 1, 2]);
  });

  test("the usual substitutes do what their names say", () => {
    const robin = guardOf(3, { policy: "round-robin" });
    robin.prefill(0, prefill(9999), 0);
    expect([1, 2, 3, 4].map(() => route(robin))).toEqual([0, 1, 2, 0]);
    const least = guardOf(3, { policy: "least-loaded" });
    least.decode(0, decode(4), 0);
    least.decode(2, decode(1), 0);
    expect(route(least)).toBe(1);
    const prefix = guardOf(3, { policy: "prefix" });
    expect(prefix.choose({ ...QUERY, cached: [0, 10, 90] }, 0)?.pair).toBe(2);
    const random = guardOf(3, { policy: "random" });
    const seen = Array.from({ length: 300 }, () => route(random));
    for (const pair of [0, 1, 2]) expect(seen.filter((one) => one === pair).length).toBeGreaterThan(60);
  });
});

describe("what the router knows of prefixes", () => {
  const options = { pools: 3, grainTokens: 4, poolGrains: 6, most: 50 };
  const prompt = (seed: number, length: number) => Uint32Array.from({ length }, (_, i) => seed * 1000 + i);

  test("a pool is taken to hold what it was sent, up to the token before the last", () => {
    const map = new PrefixMap(options);
    const chain = chainOf(prompt(1, 13), 4, 0);
    expect(chain.length).toBe(3);
    map.sent(1, chain);
    expect([...map.cached(chain)]).toEqual([0, 12, 0]);
    expect([...map.cached(chainOf(prompt(1, 9), 4, 0))]).toEqual([0, 8, 0]);
    expect([...map.cached(chainOf(prompt(2, 13), 4, 0))]).toEqual([0, 0, 0]);
    expect([...map.cached(chainOf(prompt(1, 13), 4, 5))]).toEqual([0, 0, 0]);
  });

  test("and to have given it up once it took in more than it holds", () => {
    const map = new PrefixMap(options);
    const chain = chainOf(prompt(1, 9), 4, 0);
    map.sent(0, chain);
    for (let other = 2; other < 5; other++) map.sent(0, chainOf(prompt(other, 13), 4, 0));
    expect(map.cached(chain)[0]).toBe(0);
  });

  test("against a plain model: never more than was sent, and never more remembered than allowed", () => {
    const sending = fc.record({
      pool: fc.nat(2),
      branch: fc.nat(3),
      length: fc.integer({ min: 1, max: 40 }),
    });
    fc.assert(
      fc.property(fc.array(sending, { maxLength: 60 }), (sendings) => {
        const map = new PrefixMap({ ...options, poolGrains: 1e9, most: 20 });
        const longest = new Map<string, number>();
        for (const { pool, branch, length } of sendings) {
          const chain = chainOf(prompt(branch, length), 4, 0);
          const cached = [...map.cached(chain)];
          cached.forEach((tokens, p) => {
            const sent = longest.get(`${p} ${branch}`) ?? 0;
            expect(tokens).toBeLessThanOrEqual(Math.min(sent, 4 * chain.length));
            expect(tokens % 4).toBe(0);
          });
          map.sent(pool, chain);
          const key = `${pool} ${branch}`;
          longest.set(key, Math.max(longest.get(key) ?? 0, 4 * chain.length));
          expect(map.size).toBeLessThanOrEqual(20);
        }
      }),
    );
  });
});

describe("the pace of many lanes", () => {
  test("finds the line that all share, and the lane that is slower", () => {
    const pace = new Pace(3, { fixedMs: 1, firstMs: 1, secondMs: 1 });
    let state = 1;
    const draw = () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state / 2 ** 32;
    };
    for (let i = 0; i < 3000; i++) {
      const [rows, context] = [1 + 30 * draw(), 40 * draw()];
      const lane = i % 3;
      pace.observe(lane, rows, context, (8 + 0.05 * rows + 0.3 * context) * (lane === 2 ? 3 : 1));
    }
    const scale = pace.factor(0);
    expect(pace.factor(2) / scale).toBeCloseTo(3, 1);
    expect(pace.secondMs / pace.fixedMs).toBeCloseTo(0.3 / 8, 2);
    expect(scale * (pace.fixedMs + 10 * pace.firstMs + 20 * pace.secondMs)).toBeCloseTo(14.5, 0);
  });

  test("steps that are now and then far too long, of rows much alike, do not make it run away", () => {
    const pace = new Pace(64, { fixedMs: 9, firstMs: 0.09, secondMs: 0.09 });
    let state = 1;
    const draw = () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state / 2 ** 32;
    };
    for (let i = 0; i < 40_000; i++) {
      const rows = 1 + Math.floor(4 * draw());
      const context = rows * (1 + 0.01 * draw());
      const odd = draw() < 0.1 ? 1 + 30 * draw() : 1;
      pace.observe(Math.floor(64 * draw()), rows, context, (8.3 + 0.1 * rows + 0.3 * context) * odd);
      // The longest steps take 300 ms, and the mean one 25.
      expect(pace.fixedMs + rows * (pace.firstMs + pace.secondMs)).toBeLessThan(100);
    }
  });

  test("is never led to nonsense by odd reports", () => {
    const report = fc.tuple(fc.nat(1), fc.nat(300), fc.nat(100), fc.nat(10_000));
    fc.assert(
      fc.property(fc.array(report, { maxLength: 100 }), (reports) => {
        const pace = new Pace(2, { fixedMs: 1, firstMs: 1, secondMs: 1 });
        for (const [lane, rows, context, ms] of reports) pace.observe(lane, rows, context, ms);
        for (const value of [pace.fixedMs, pace.firstMs, pace.secondMs, pace.factor(0), pace.factor(1)]) {
          expect(value).toBeGreaterThanOrEqual(0);
          expect(Number.isFinite(value)).toBe(true);
        }
      }),
    );
  });
});
