import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { planDrafts, planGiven } from "../dist/policy/depth.js";
import { expectedOf, planModel, TrialBudget } from "../dist/policy/draft-model.js";
import { type DraftingLimits, LaneDrafts, OWN, RECENT, RowDrafts } from "../dist/policy/drafting.js";
import { type Continuation, Successors, Suffix } from "../dist/policy/successors.js";
import { Earnings, EVIDENCES, evidence, Survival } from "../dist/policy/survival.js";

const LIMITS: DraftingLimits = {
  maxDepth: 8,
  longestSuffix: 5,
  shortestSuffix: 1,
  ownEntries: 4096,
  recentEntries: 4096,
  tenants: 2,
  leastSurvival: 0.01,
  memoryTries: 200,
  memoryTokens: 50,
  priorTries: 4,
  priorHits: 4,
};

function suffixOf(tokens: readonly number[], longest: number): Suffix {
  const suffix = new Suffix(longest);
  for (const token of tokens) suffix.push(token);
  return suffix;
}

function known(tokens: readonly number[], longest: number, entries = 1 << 14): Successors {
  const successors = new Successors(longest, entries);
  const suffix = new Suffix(longest);
  for (const token of tokens) {
    successors.add(suffix, token);
    suffix.push(token);
  }
  return successors;
}

/** The longest known suffix and how often each token followed it, by looking at every earlier place. */
function lookUpSlowly(tokens: readonly number[], longest: number) {
  for (let match = Math.min(longest, tokens.length - 1); match > 0; match--) {
    const suffix = tokens.slice(-match);
    const counts = new Map<number, number>();
    for (let end = match; end < tokens.length; end++) {
      if (suffix.every((token, i) => tokens[end - match + i] === token)) {
        counts.set(tokens[end]!, (counts.get(tokens[end]!) ?? 0) + 1);
      }
    }
    if (counts.size > 0) return { match, counts };
  }
  return undefined;
}

/** Numbers from 0 to 1 without any pattern. */
function patternless(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

const nothing = (): Continuation => ({ token: 0, match: 0, count: 0, total: 0 });

describe("successors", () => {
  test("find the longest known suffix and how often anything followed it", () => {
    const tokens = fc.array(fc.nat(3), { minLength: 1, maxLength: 60 });
    fc.assert(
      fc.property(tokens, fc.integer({ min: 1, max: 5 }), (all, longest) => {
        const found = nothing();
        const slow = lookUpSlowly(all, longest);
        expect(known(all, longest).find(suffixOf(all, longest), found)).toBe(slow !== undefined);
        if (!slow) return;
        expect(found.match).toBe(slow.match);
        expect(found.total).toBe([...slow.counts.values()].reduce((sum, count) => sum + count, 0));
        expect(slow.counts.has(found.token)).toBe(true);
        expect(found.count).toBeLessThanOrEqual(slow.counts.get(found.token)!);
        // With two rivals nothing is forgotten: the more frequent one wins.
        if (slow.counts.size <= 2) {
          expect(slow.counts.get(found.token)).toBe(Math.max(...slow.counts.values()));
          expect(found.count).toBe(slow.counts.get(found.token));
        }
      }),
    );
  });

  test("of two that followed as often the later wins", () => {
    const found = nothing();
    known([1, 2, 3, 1, 2, 4], 2).find(suffixOf([1, 2], 2), found);
    expect(found.token).toBe(4);
  });

  test("a full table forgets, and never gives what did not follow a suffix", () => {
    const tokens = Array.from({ length: 5000 }, (_, i) => (i * i * 31) % 997);
    const small = known(tokens, 3, 64);
    const followed = new Map<string, Set<number>>();
    tokens.forEach((token, i) => {
      for (let n = 1; n <= 3 && n <= i; n++) {
        const key = tokens.slice(i - n, i).join();
        followed.set(key, (followed.get(key) ?? new Set()).add(token));
      }
    });
    const found = nothing();
    let finds = 0;
    for (let end = 3; end < tokens.length; end++) {
      const suffix = tokens.slice(end - 3, end);
      if (!small.find(suffixOf(suffix, 3), found)) continue;
      finds++;
      expect(followed.get(suffix.slice(-found.match).join())!.has(found.token)).toBe(true);
    }
    expect(finds).toBeGreaterThan(0);
  });
});

describe("survival", () => {
  const sure: Continuation = { token: 1, match: 5, count: 9, total: 9 };
  const unsure: Continuation = { token: 2, match: 1, count: 1, total: 9 };

  test("learns how often each kind of evidence holds, apart from the others", () => {
    const survival = new Survival(2, 1000, 4);
    for (let i = 0; i < 400; i++) {
      survival.observe(evidence(0, sure, undefined), i % 10 !== 0);
      survival.observe(evidence(0, unsure, sure), i % 10 === 0);
    }
    expect(survival.probability(evidence(0, sure, undefined))).toBeCloseTo(0.9, 1);
    expect(survival.probability(evidence(0, unsure, sure))).toBeCloseTo(0.1, 1);
    expect(survival.probability(evidence(1, sure, undefined))).toBeCloseTo(
      new Survival(2, 1000, 4).probability(evidence(1, sure, undefined)),
    );
  });

  test("what one lane learnt is another's prior", () => {
    const lane = new Survival(1, 500, 4);
    const tuner = new Survival(1, 500, 4);
    const cell = evidence(0, sure, undefined);
    for (let i = 0; i < 300; i++) lane.observe(cell, i % 4 === 0);
    tuner.learn(lane.takeNews());
    expect(tuner.probability(cell)).toBeCloseTo(lane.probability(cell), 1);
    const fresh = new Survival(1, 500, 4);
    fresh.adopt(tuner.toArray());
    expect(fresh.probability(cell)).toBeCloseTo(tuner.probability(cell), 6);
    expect(lane.takeNews().every((count) => count === 0)).toBe(true);
  });

  test("arrays of another size change nothing", () => {
    const survival = new Survival(1, 500, 4);
    const before = survival.toArray();
    survival.learn(new Float32Array(3));
    survival.adopt(new Float32Array(3));
    expect(survival.toArray()).toEqual(before);
    expect(before.length).toBe(EVIDENCES);
  });

  test("a request that breaks its promises is promised less, drafter by drafter", () => {
    const earnings = new Earnings(2, 100, 4);
    for (let i = 0; i < 100; i++) earnings.observe(0, 0.8, false);
    for (let i = 0; i < 100; i++) earnings.observe(1, 0.5, true);
    expect(earnings.adjust(0, 0.8)).toBeLessThan(0.1);
    expect(earnings.adjust(1, 0.5)).toBeGreaterThan(0.8);
    expect(earnings.adjust(1, 0.9)).toBeLessThan(1);
  });

  test("what others of a workload broke is promised less from the start, what they kept no more", () => {
    const workload = new Earnings(2, 1000, 10);
    for (let i = 0; i < 500; i++) {
      workload.observe(0, 0.8, i % 2 === 0);
      workload.observe(1, 0.5, true);
    }
    const request = new Earnings(2, 100, 10, workload);
    expect(request.adjust(0, 0.8)).toBeCloseTo(0.5, 1);
    expect(request.adjust(1, 0.5)).toBe(0.5);
    for (let i = 0; i < 100; i++) request.observe(0, 0.8, true);
    expect(request.adjust(0, 0.8)).toBeGreaterThan(0.85);
  });
});

describe("drafts of a request", () => {
  function rowOf(lane: LaneDrafts, prompt: readonly number[], tenant = 0): RowDrafts {
    const row = new RowDrafts(lane, tenant, 1000, false);
    row.read(prompt);
    return row;
  }

  test("continue a text that repeats itself beyond its end", () => {
    const row = rowOf(new LaneDrafts(LIMITS), [1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2]);
    const into = new Uint32Array(8);
    expect(row.draft(into, 1, 6)).toBe(6);
    expect([...into.subarray(1, 7)]).toEqual([3, 1, 2, 3, 1, 2]);
    expect(new Set(row.makers.subarray(0, 6))).toEqual(new Set([OWN]));
  });

  test("come from recent outputs of the same tenant, never from another's", () => {
    const lane = new LaneDrafts(LIMITS);
    rowOf(lane, [9], 7).accept([10, 11, 12, 13, 14]);
    const same = rowOf(lane, [50, 10, 11], 7);
    const into = new Uint32Array(8);
    expect(same.draft(into, 0, 3)).toBe(3);
    expect([...into.subarray(0, 3)]).toEqual([12, 13, 14]);
    expect(same.makers[0]).toBe(RECENT);
    expect(rowOf(lane, [50, 10, 11], 8).draft(into, 0, 3)).toBe(0);
  });

  test("are promised by what they were worth to earlier requests of the tenant, and to nobody else's", () => {
    const lane = new LaneDrafts({ ...LIMITS, tenants: 3 });
    const [deceived, honest, newcomer] = [1, 2, 3];
    const into = new Uint32Array(LIMITS.maxDepth);
    let token = 0;
    /** A request in which two tokens come again that were followed once; tokens are nobody else's. */
    const again = (tenant: number, next?: number): number => {
      token += 4;
      const row = rowOf(lane, [token, token + 1, token + 2, token, token + 1], tenant);
      expect(row.draft(into, 0, 1)).toBe(1);
      if (next !== undefined) row.accept([token + next]);
      row.close();
      return row.survivals[0]!;
    };
    for (let i = 0; i < 100; i++) {
      again(deceived, 3);
      again(honest, 2);
    }
    expect(again(deceived)).toBeLessThan(0.7 * again(newcomer));
    expect(again(honest)).toBe(again(newcomer));
  });

  test("leave nothing behind in a table that the next request gets", () => {
    const lane = new LaneDrafts(LIMITS);
    const first = rowOf(lane, [1, 2, 3, 1, 2], 7);
    first.close();
    const second = rowOf(lane, [4, 1, 2], 8);
    expect(second.draft(new Uint32Array(8), 0, 4)).toBe(0);
    const other = rowOf(lane, [1, 2, 3, 1, 2], 9);
    expect(other.draft(new Uint32Array(8), 0, 1)).toBe(1);
    expect(second.draft(new Uint32Array(8), 0, 4)).toBe(0);
  });

  test("of many tenants the one longest unused is forgotten", () => {
    const lane = new LaneDrafts(LIMITS);
    const [first, second] = [lane.tenant(1), lane.tenant(2)];
    expect(lane.tenant(1)).toBe(first);
    lane.tenant(3);
    expect(lane.tenant(1)).toBe(first);
    expect(lane.tenant(2)).not.toBe(second);
  });

  test("survival never rises along the drafts, and none is made unasked", () => {
    const text = fc.array(fc.nat(4), { minLength: 1, maxLength: 80 });
    fc.assert(
      fc.property(text, text, fc.integer({ min: -2, max: 12 }), (prompt, output, most) => {
        const row = rowOf(new LaneDrafts(LIMITS), prompt);
        row.accept(output);
        const drafts = row.draft(new Uint32Array(16), 1, most);
        expect(drafts).toBeLessThanOrEqual(Math.max(0, Math.min(most, LIMITS.maxDepth)));
        expect(row.outlook.length).toBe(drafts);
        let before = 1;
        for (const survival of row.outlook) {
          expect(survival).toBeGreaterThan(0);
          expect(survival).toBeLessThanOrEqual(before);
          before = survival;
        }
      }),
    );
  });

  test("are judged by tokens drawn even when none was verified", () => {
    const lane = new LaneDrafts(LIMITS);
    const row = rowOf(lane, [1, 2, 3, 4]);
    const into = new Uint32Array(8);
    row.accept(Array.from({ length: 400 }, (_, i) => (i % 4) + 1));
    row.draft(into, 0, 1);
    expect(row.survivals[0]).toBeGreaterThan(0.9);
    // The text that follows breaks every rule it had: each token is followed by another one each time.
    const next = patternless(7);
    row.accept(Array.from({ length: 80 }, () => Math.floor(next() * 4) + 1));
    row.draft(into, 0, 1);
    expect(row.survivals[0]).toBeLessThan(0.8);
  });
});

describe("the goodput rule", () => {
  /** A step of `fixed` + `each` * tokens milliseconds. */
  const costing = (fixed: number, each: number) => (tokens: number) => fixed + each * tokens;

  test("drafts nothing where drafts never hold, or tokens are all the cost", () => {
    expect(planDrafts([[0, 0, 0]], 8, costing(10, 1)).drafts).toBe(0);
    expect(planDrafts([[0.9, 0.8, 0.7]], 8, costing(0, 1)).drafts).toBe(0);
  });

  test("drafts all where they hold and a step costs the same whatever its tokens", () => {
    expect(planDrafts([[0.9, 0.8, 0.7]], 8, costing(10, 0)).drafts).toBe(3);
  });

  test("drafts less as the batch grows: what one row gains costs every row", () => {
    const survivals = [0.6, 0.4, 0.25, 0.15];
    const depths = [1, 8, 64].map((rows) => {
      const plan = planDrafts(Array(rows).fill(survivals), 1000, costing(8, 0.4));
      return plan.drafts / rows;
    });
    expect(depths[0]).toBeGreaterThan(depths[2]!);
    expect(depths[2]).toBe(0);
  });

  test("looks past a number of tokens that is dearer than a larger one", () => {
    const panels = (tokens: number) => (tokens >= 4 ? 5 : 4 + tokens);
    expect(planDrafts([[0.2, 0.15, 0.12, 0.05]], 8, panels).drafts).toBeGreaterThanOrEqual(3);
  });

  test("leaves drafts that gain less than the margin", () => {
    // A draft that is to hold every time, in a step that takes 1.9 times as long: 2 / 1.9 = 1.053.
    const cost = (tokens: number) => (tokens === 1 ? 1 : 1.9);
    expect(planDrafts([[1]], 1, cost, 1, 0.05).drafts).toBe(1);
    expect(planDrafts([[1]], 1, cost, 1, 0.06).drafts).toBe(0);
    expect(planDrafts([[1]], 1, cost, 1, 0.06).expectedTokens).toBe(1);
  });

  test("has no better plan under its own model, within what it may draft", () => {
    const row = fc
      .array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 3 })
      .map((shares) => [...shares].sort((a, b) => b - a));
    const rows = fc.array(row, { minLength: 1, maxLength: 3 });
    const cost = fc.array(fc.double({ min: 0.1, max: 10, noNaN: true }), { minLength: 13, maxLength: 13 });
    fc.assert(
      fc.property(rows, cost, fc.nat(8), (survivals, ms, most) => {
        const predict = (tokens: number) => ms[tokens]!;
        const plan = planDrafts(survivals, most, predict);
        expect(plan.drafts).toBeLessThanOrEqual(most);
        const rate = (depths: readonly number[]) => {
          let expected = 0;
          let tokens = 0;
          depths.forEach((depth, i) => {
            expected += 1 + survivals[i]!.slice(0, depth).reduce((sum, share) => sum + share, 0);
            tokens += 1 + depth;
          });
          return tokens - depths.length > most ? 0 : expected / predict(tokens);
        };
        const chosen = rate([...plan.depths]);
        expect(chosen).toBeCloseTo(plan.expectedTokens / plan.predictedMs, 9);
        const all = survivals.reduce<number[][]>(
          (some, row) =>
            some.flatMap((depths) => Array.from({ length: row.length + 1 }, (_, d) => [...depths, d])),
          [[]],
        );
        for (const depths of all) expect(chosen).toBeGreaterThanOrEqual(rate(depths) - 1e-9);
      }),
    );
  });

  test("a fixed depth is as deep as drafts go", () => {
    const plan = planGiven([[0.5, 0.1, 0.1], [], [0.3]], [2, 2, 2], 100, costing(1, 1));
    expect([...plan.depths]).toEqual([2, 0, 1]);
    expect(planGiven([[0.5], [0.5]], [8, 8], 1, costing(1, 1)).drafts).toBe(1);
  });
});

describe("a draft model's plan", () => {
  const row = (promise: number, more: object = {}) => ({
    row: 0,
    promise,
    most: 8,
    drafts: 0,
    expected: 0,
    ...more,
  });
  /** One row without drafts, a millisecond a step whatever its tokens. */
  const without = { rows: 1, drafts: 0, expectedTokens: 1, predictedMs: 1 };
  const verifyMs = () => 1;

  test("is as deep as its drafts are worth the model's own steps", () => {
    const free = planModel([row(0.8)], without, 99, verifyMs, () => 0);
    expect(free.depth).toBe(8);
    expect(free.gain).toBeCloseTo(1 + expectedOf(0.8, 8), 9);
    const dear = planModel([row(0.8)], without, 99, verifyMs, () => 0.2);
    expect(dear.depth).toBeGreaterThan(0);
    expect(dear.depth).toBeLessThan(8);
    const best = Array.from({ length: 8 }, (_, k) => (1 + expectedOf(0.8, k + 1)) / (1 + 0.2 * (k + 1)));
    expect(dear.gain).toBeCloseTo(Math.max(...best), 9);
  });

  test("is none for a model that is as dear as what it drafts for, however right", () => {
    expect(planModel([row(0.99)], without, 99, verifyMs, () => 1)).toMatchObject({
      depth: 0,
      chosen: [],
      gain: 1,
    });
  });

  test("leaves rows to drafters that promise more, and keeps within the step's tokens", () => {
    const rows = [row(0.8), row(0.8, { row: 1, drafts: 6, expected: 5 }), row(0.8, { row: 2 })];
    const three = { rows: 3, drafts: 6, expectedTokens: 8, predictedMs: 1 };
    expect(planModel(rows, three, 99, verifyMs, () => 0.01).chosen).toEqual([0, 2]);
    const cramped = planModel(rows, three, 11, verifyMs, () => 0.01);
    expect(cramped.depth * cramped.chosen.length).toBeLessThanOrEqual(2);
  });

  test("trials cost no more than their share of the time that passes", () => {
    const budget = new TrialBudget(0.01, 50);
    let spent = 0;
    for (let ms = 0; ms < 10_000; ms += 5) {
      budget.pass(5);
      if (!budget.allows(3)) continue;
      budget.spend(3);
      spent += 3;
    }
    expect(spent).toBeGreaterThan(90);
    expect(spent).toBeLessThanOrEqual(100);
  });
});
