import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AdmissionQueue, blocksFor, HoldingTime, type Waiting } from "../dist/policy/admission.js";

const LIMITS = { maxWaiting: 100, passMs: 1000, offlinePatienceMs: 5000, lookAhead: 8 };

function waiting(request: number, blocks: number, more: Partial<Waiting> = {}): Waiting {
  return { request, attempt: 0, blocks, offline: false, since: 0, deadline: 0, ...more };
}

function queueOf(...all: Waiting[]): AdmissionQueue<Waiting> {
  const queue = new AdmissionQueue<Waiting>(LIMITS);
  for (const one of all) queue.add(one, false);
  return queue;
}

describe("admission", () => {
  test("is first in, first out within a class, interactive first", () => {
    const queue = queueOf(waiting(1, 1, { offline: true }), waiting(2, 1), waiting(3, 1));
    expect([1, 2, 3].map(() => queue.next(10, 0)?.request)).toEqual([2, 3, 1]);
    expect(queue.next(10, 0)).toBeUndefined();
  });

  test("lets a small request pass a big one for a bounded time only", () => {
    const queue = queueOf(waiting(1, 50), waiting(2, 5), waiting(3, 5));
    expect(queue.next(10, LIMITS.passMs - 1)?.request).toBe(2);
    expect(queue.next(10, LIMITS.passMs)).toBeUndefined();
    expect(queue.next(50, LIMITS.passMs)?.request).toBe(1);
    expect(queue.next(10, LIMITS.passMs)?.request).toBe(3);
  });

  test("holds offline requests back from what an old interactive one waits for", () => {
    const queue = queueOf(waiting(1, 50), waiting(2, 5, { offline: true }));
    expect(queue.next(10, LIMITS.passMs)).toBeUndefined();
  });

  test("does not let offline requests wait for ever behind interactive ones", () => {
    const queue = queueOf(waiting(1, 1, { offline: true }));
    const now = LIMITS.offlinePatienceMs;
    queue.add(waiting(2, 1, { since: now }), false);
    expect(queue.next(1, now)?.request).toBe(1);
  });

  test("refuses beyond its bound, but takes back what was admitted once, first", () => {
    const queue = new AdmissionQueue<Waiting>({ ...LIMITS, maxWaiting: 1 });
    expect(queue.add(waiting(1, 1), false)).toBe(true);
    expect(queue.add(waiting(2, 1), false)).toBe(false);
    expect(queue.add(waiting(3, 1), true)).toBe(true);
    expect(queue.next(1, 0)?.request).toBe(3);
  });

  test("gives out those whose deadline has passed", () => {
    const queue = queueOf(waiting(1, 1, { deadline: 5 }), waiting(2, 1), waiting(3, 1, { deadline: 10 }));
    expect(queue.expired(5).map(({ request }) => request)).toEqual([1]);
    expect(queue.size).toBe(2);
  });

  test("never admits more than is free, and serves everyone in the end", () => {
    const request = fc.record({ blocks: fc.integer({ min: 1, max: 20 }), offline: fc.boolean() });
    fc.assert(
      fc.property(fc.array(request, { maxLength: 40 }), fc.integer({ min: 1, max: 12 }), (all, release) => {
        const queue = new AdmissionQueue<Waiting>(LIMITS);
        for (const [i, { blocks, offline }] of all.entries())
          queue.add(waiting(i, blocks, { offline }), false);
        let now = 0;
        let free = 20;
        const running: Waiting[] = [];
        const served = new Set<number>();
        // Every round releases the oldest running requests: a bounded number of rounds must serve all.
        for (let round = 0; round < 400 && served.size < all.length; round++) {
          now += 100;
          for (let next = queue.next(free, now); next; next = queue.next(free, now)) {
            expect(next.blocks).toBeLessThanOrEqual(free);
            free -= next.blocks;
            running.push(next);
            served.add(next.request);
          }
          for (const done of running.splice(0, release)) free += done.blocks;
        }
        expect(served.size).toBe(all.length);
        expect(queue.blocks).toBe(0);
      }),
    );
  });
});

test("blocks are rounded up", () => {
  expect([0, 1, 16, 17].map((tokens) => blocksFor(tokens, 16))).toEqual([0, 1, 1, 2]);
});

describe("predicted wait", () => {
  test("is the time held, shared out over what is reserved", () => {
    const holding = new HoldingTime(8);
    for (let i = 0; i < 20; i++) holding.released(1000);
    expect(holding.predictMs(10, 100, 0)).toBeCloseTo(100);
    expect(holding.predictMs(200, 100, 0)).toBeCloseTo(2000);
  });

  test("follows a change within its memory", () => {
    const holding = new HoldingTime(8);
    for (let i = 0; i < 100; i++) holding.released(1000);
    for (let i = 0; i < 40; i++) holding.released(10);
    expect(holding.predictMs(100, 100, 0)).toBeLessThan(30);
  });

  test("is what the caller says while nothing is known, and 0 when nothing is needed", () => {
    expect(new HoldingTime(8).predictMs(5, 10, 700)).toBe(700);
    expect(new HoldingTime(8).predictMs(0, 10, 700)).toBe(0);
  });
});
