import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AdmissionQueue, blocksFor, type Waiting } from "../dist/policy/admission.js";
import { HoldingTime } from "../dist/policy/waiting-time.js";

const LIMITS = {
  maxWaiting: 100,
  passMs: 1000,
  offlinePatienceMs: 5000,
  lookAhead: 8,
  mostTenants: 100,
  outputWeight: 2,
};

function waiting(request: number, blocks: number, more: Partial<Waiting> = {}): Waiting {
  return {
    request,
    attempt: 0,
    resumed: false,
    blocks,
    promptTokens: blocks * 16,
    tenant: 0,
    cost: blocks * 16,
    offline: false,
    since: 0,
    deadline: 0,
    ...more,
  };
}

/** A request that comes back from the lanes. */
const BACK = { attempt: 1, resumed: true };

function queueOf(...all: Waiting[]): AdmissionQueue<Waiting> {
  const queue = new AdmissionQueue<Waiting>(LIMITS);
  for (const one of all) queue.add(one);
  return queue;
}

/** The next that fits into so many blocks. */
function next(queue: AdmissionQueue<Waiting>, free: number, now: number): Waiting | undefined {
  return queue.next(({ blocks }) => blocks <= free, now);
}

describe("admission", () => {
  test("is first in, first out within a class, interactive first", () => {
    const queue = queueOf(waiting(1, 1, { offline: true }), waiting(2, 1), waiting(3, 1));
    expect([1, 2, 3].map(() => next(queue, 10, 0)?.request)).toEqual([2, 3, 1]);
    expect(next(queue, 10, 0)).toBeUndefined();
  });

  test("lets a small request pass a big one for a bounded time only", () => {
    const queue = queueOf(waiting(1, 50), waiting(2, 5), waiting(3, 5));
    expect(next(queue, 10, LIMITS.passMs - 1)?.request).toBe(2);
    expect(next(queue, 10, LIMITS.passMs)).toBeUndefined();
    expect(next(queue, 50, LIMITS.passMs)?.request).toBe(1);
    expect(next(queue, 10, LIMITS.passMs)?.request).toBe(3);
  });

  test("holds offline requests back from what an old interactive one waits for", () => {
    const queue = queueOf(waiting(1, 50), waiting(2, 5, { offline: true }));
    expect(next(queue, 10, LIMITS.passMs)).toBeUndefined();
  });

  test("sends one offline request first now and then, and no more", () => {
    const queue = queueOf(waiting(1, 1, { offline: true }), waiting(2, 1, { offline: true }));
    const now = LIMITS.offlinePatienceMs;
    queue.add(waiting(3, 1, { since: now }));
    expect([next(queue, 1, now), next(queue, 1, now), next(queue, 1, now)].map((w) => w?.request)).toEqual([
      1, 3, 2,
    ]);
  });

  test("refuses beyond its bound, but takes back what was admitted once, first", () => {
    const queue = new AdmissionQueue<Waiting>({ ...LIMITS, maxWaiting: 1 });
    expect(queue.add(waiting(1, 1))).toBe(true);
    expect(queue.add(waiting(2, 1))).toBe(false);
    expect(queue.add(waiting(3, 1, BACK))).toBe(true);
    expect(next(queue, 1, 0)?.request).toBe(3);
  });

  test("has those that come back in the order they first came in, before all others", () => {
    const queue = queueOf(waiting(4, 1), waiting(5, 1));
    for (const request of [2, 1, 3]) queue.add(waiting(request, 1, BACK));
    expect([1, 2, 3, 4, 5].map(() => next(queue, 1, 0)?.request)).toEqual([1, 2, 3, 4, 5]);
  });

  test("puts what only waited before at the end, however full the queue is", () => {
    const queue = new AdmissionQueue<Waiting>({ ...LIMITS, maxWaiting: 2 });
    for (const request of [1, 2, 3, 4]) queue.add(waiting(request, 1, { attempt: 1 }));
    expect(queue.add(waiting(5, 1))).toBe(false);
    expect([1, 2, 3, 4].map(() => next(queue, 1, 0)?.request)).toEqual([1, 2, 3, 4]);
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
        for (const [i, { blocks, offline }] of all.entries()) queue.add(waiting(i, blocks, { offline }));
        let now = 0;
        let free = 20;
        const running: Waiting[] = [];
        const served = new Set<number>();
        // Every round releases the oldest running requests: a bounded number of rounds must serve all.
        for (let round = 0; round < 400 && served.size < all.length; round++) {
          now += 100;
          for (let one = next(queue, free, now); one; one = next(queue, free, now)) {
            expect(one.blocks).toBeLessThanOrEqual(free);
            free -= one.blocks;
            running.push(one);
            served.add(one.request);
          }
          for (const done of running.splice(0, release)) free += done.blocks;
        }
        expect(served.size).toBe(all.length);
        expect(queue.blocks).toBe(0);
      }),
    );
  });
});

describe("tenants", () => {
  const BUSY = 1;
  const CALM = 2;

  test("share a class by tokens: ten times the requests get no more than half", () => {
    const queue = new AdmissionQueue<Waiting>({ ...LIMITS, maxWaiting: 1000 });
    for (let i = 0; i < 200; i++) queue.add(waiting(i, 1, { tenant: BUSY }));
    for (let i = 200; i < 220; i++) queue.add(waiting(i, 1, { tenant: CALM }));
    const order = Array.from({ length: 40 }, () => next(queue, 1, 0)!.tenant);
    expect(order.filter((tenant) => tenant === BUSY)).toHaveLength(20);
  });

  test("whoever comes back from idleness has no claim saved up", () => {
    const queue = new AdmissionQueue<Waiting>({ ...LIMITS, maxWaiting: 1000 });
    for (let i = 0; i < 100; i++) queue.add(waiting(i, 1, { tenant: BUSY }));
    for (let i = 0; i < 50; i++) next(queue, 1, 0);
    for (let i = 100; i < 150; i++) queue.add(waiting(i, 1, { tenant: CALM }));
    const order = Array.from({ length: 20 }, () => next(queue, 1, 0)!.tenant);
    expect(order.filter((tenant) => tenant === CALM)).toHaveLength(10);
  });

  test("a full queue takes in who has less waiting, in place of the last of who has most", () => {
    const queue = new AdmissionQueue<Waiting>({ ...LIMITS, maxWaiting: 4 });
    for (let i = 0; i < 4; i++) queue.add(waiting(i, 1, { tenant: BUSY }));
    expect(queue.add(waiting(4, 1, { tenant: CALM }))).toBe(false);
    expect(queue.displace(waiting(4, 1, { tenant: CALM }))?.request).toBe(3);
    expect(queue.add(waiting(4, 1, { tenant: CALM }))).toBe(true);
    expect(queue.displace(waiting(5, 1, { tenant: BUSY }))).toBeUndefined();
  });

  test("a full queue displaces nobody who is resumed, and takes the newcomer however long it is", () => {
    const [BUSY, CALM] = [1, 2];
    const queue = new AdmissionQueue<Waiting>({ ...LIMITS, maxWaiting: 2 });
    queue.add(waiting(1, 1, { tenant: BUSY }));
    for (const request of [2, 3, 4]) queue.add(waiting(request, 1, { tenant: BUSY, ...BACK }));
    expect(queue.displace(waiting(5, 1, { tenant: CALM }))?.request).toBe(1);
    queue.replace(waiting(5, 1, { tenant: CALM }));
    expect(queue.size).toBe(4);
    expect(queue.displace(waiting(6, 1, { tenant: CALM }))).toBeUndefined();
    expect(queue.remove(5)?.request).toBe(5);
  });

  test("what is before a newcomer is what is admitted before it", () => {
    const request = fc.record({
      blocks: fc.integer({ min: 1, max: 9 }),
      tenant: fc.integer({ min: 0, max: 3 }),
      offline: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(request, { maxLength: 40 }), request, (all, last) => {
        const queue = new AdmissionQueue<Waiting>(LIMITS);
        for (const [i, { blocks, ...rest }] of all.entries()) queue.add(waiting(i, blocks, rest));
        const newcomer = waiting(99, last.blocks, last);
        const ahead = queue.ahead(newcomer);
        queue.add({ ...newcomer, since: 1 });
        const before = { requests: 0, blocks: 0, promptTokens: 0 };
        for (let one = next(queue, 99, 1); one && one.request !== 99; one = next(queue, 99, 1)) {
          before.requests++;
          before.blocks += one.blocks;
          before.promptTokens += one.promptTokens;
        }
        expect(ahead).toEqual(before);
      }),
    );
  });

  test("that wait all the time differ by no more than one request's charge, and nobody starves", () => {
    const costs = fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 60, maxLength: 60 });
    fc.assert(
      fc.property(fc.array(costs, { minLength: 2, maxLength: 5 }), (tenants) => {
        const queue = new AdmissionQueue<Waiting>({ ...LIMITS, maxWaiting: 1000 });
        tenants.forEach((list, tenant) => {
          for (const [i, cost] of list.entries()) queue.add(waiting(tenant * 100 + i, 1, { tenant, cost }));
        });
        const served = tenants.map(() => 0);
        const left = tenants.map((list) => list.length);
        // As long as all of them wait.
        while (left.every((count) => count > 0)) {
          const { tenant, cost } = next(queue, 1, 0)!;
          served[tenant]! += cost;
          left[tenant]!--;
          expect(Math.max(...served) - Math.min(...served)).toBeLessThanOrEqual(50);
        }
      }),
    );
  });

  test("are forgotten beyond the bound, those who wait never", () => {
    const queue = new AdmissionQueue<Waiting>({ ...LIMITS, mostTenants: 5, maxWaiting: 1000 });
    for (let i = 0; i < 50; i++) {
      queue.add(waiting(i, 1, { tenant: i }));
      if (i % 2 === 0) queue.remove(i);
    }
    expect(queue.shares(false).size).toBeLessThanOrEqual(25 + 5);
    for (let i = 0; i < 25; i++) expect(next(queue, 1, 0)).toBeDefined();
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
