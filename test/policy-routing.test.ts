import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FlowGuard } from "../dist/policy/flow-guard.js";

const CONSTANTS = {
  unknownTokenMs: 1,
  unknownStepMs: 10,
  rowShare: 0.1,
  maxRows: 8,
  handOffBlockMs: 0,
  staleMs: 100,
  missingBlockMs: 50,
};
const QUERY = { promptTokens: 100, outputTokens: 50, blocks: 5 };

function guardOf(pairs: number): FlowGuard {
  return new FlowGuard(pairs, CONSTANTS);
}

const prefill = (queuedTokens: number, taken = 0) => ({ queuedTokens, taken, ended: 0, tokenMs: 1 });
const decode = (rows: number, more = {}) => ({ rows, taken: 0, stepMs: 10, spareBlocks: 1000, ...more });

/** Routes and accounts for it. */
function route(guard: FlowGuard, now = 0): number | undefined {
  const choice = guard.choose(QUERY, now);
  if (choice) guard.sent(choice.pair, QUERY);
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
    guard.decode(0, decode(1, { stepMs: 30 }), 0);
    guard.decode(1, decode(1, { stepMs: 10 }), 0);
    expect(route(guard)).toBe(1);
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

  test("counts what it sent only until the lane's report includes it", () => {
    const guard = guardOf(1);
    guard.sent(0, QUERY);
    const before = guard.firstTokenMs(0, QUERY, 0);
    guard.prefill(0, prefill(0, 100), 0);
    expect(guard.firstTokenMs(0, QUERY, 0)).toBe(before - 100);
  });

  test("requests that end in prefill do not count as on their way to decode", () => {
    const guard = guardOf(1);
    const idle = guard.tokenMs(0);
    for (let i = 0; i < 50; i++) guard.sent(0, QUERY);
    expect(guard.tokenMs(0)).toBeGreaterThan(idle * 2);
    guard.prefill(0, { ...prefill(0, 5000), ended: 50 }, 0);
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
    const pair = fc.record({
      queued: fc.nat(5000),
      rows: fc.nat(64),
      step: fc.integer({ min: 1, max: 100 }),
    });
    fc.assert(
      fc.property(fc.array(pair, { minLength: 1, maxLength: 20 }), (pairs) => {
        const guard = guardOf(pairs.length);
        pairs.forEach(({ queued, rows, step }, i) => {
          guard.prefill(i, prefill(queued), 0);
          guard.decode(i, decode(rows, { stepMs: step }), 0);
        });
        const cost = (i: number) => guard.firstTokenMs(i, QUERY, 0) + QUERY.outputTokens * guard.tokenMs(i);
        const chosen = cost(guard.choose(QUERY, 0)!.pair);
        for (let i = 0; i < pairs.length; i++) expect(chosen).toBeLessThanOrEqual(cost(i));
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
