import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AcceptanceByPosition } from "../dist/policy/acceptance.js";
import { chooseDepth, expectedTokens } from "../dist/policy/depth.js";
import { PromptLookup } from "../dist/policy/lookup.js";
import { StepCost, straightLine } from "../dist/policy/step-cost.js";

/** What prompt lookup means, by looking at every earlier place. */
function lookUpSlowly(tokens: number[], longest: number, shortest: number): number | undefined {
  for (let size = longest; size >= shortest; size--) {
    if (size >= tokens.length) continue;
    const suffix = tokens.slice(-size);
    for (let end = tokens.length - 1; end >= size; end--) {
      if (suffix.every((token, i) => tokens[end - size + i] === token)) return tokens[end];
    }
  }
  return undefined;
}

describe("prompt lookup", () => {
  test("proposes what followed the longest, latest earlier occurrence of the suffix", () => {
    const tokens = fc.array(fc.nat(3), { minLength: 1, maxLength: 60 });
    fc.assert(
      fc.property(tokens, fc.integer({ min: 1, max: 3 }), fc.nat(3), (all, shortest, more) => {
        const longest = shortest + more;
        const lookup = new PromptLookup(64, longest, shortest, 64);
        for (const token of all) lookup.push(token);
        const drafts = new Uint32Array(4);
        const found = lookup.draft(drafts, 0, 4);
        const first = lookUpSlowly(all, longest, shortest);
        expect(found > 0 ? drafts[0] : undefined).toBe(first);
      }),
    );
  });

  test("continues a text that repeats itself beyond its end", () => {
    const lookup = new PromptLookup(16, 5, 2, 8);
    for (const token of [1, 2, 3, 1, 2, 3, 1, 2]) lookup.push(token);
    const drafts = new Uint32Array(8);
    expect(lookup.draft(drafts, 1, 6)).toBe(6);
    expect([...drafts.subarray(1, 7)]).toEqual([3, 1, 2, 3, 1, 2]);
  });

  test("takes no more than its capacity and proposes nothing unasked", () => {
    const lookup = new PromptLookup(4, 3, 2, 8);
    for (let i = 0; i < 10; i++) lookup.push(7);
    expect(lookup.length).toBe(4);
    expect(lookup.draft(new Uint32Array(4), 0, 0)).toBe(0);
  });
});

describe("acceptance by position", () => {
  test("learns the share accepted, fades, and is never higher further on", () => {
    const acceptance = new AcceptanceByPosition(3, 100, 0.5);
    for (let i = 0; i < 100; i++) acceptance.observe([10, 10, 10], [8, 8, 8], [6, 2, 4]);
    expect(acceptance.accepted(0)).toBeCloseTo(0.6, 2);
    expect(acceptance.accepted(1)).toBeCloseTo(0.2, 2);
    expect(acceptance.accepted(2)).toBeLessThanOrEqual(acceptance.accepted(1));
    expect(acceptance.proposed(0)).toBeCloseTo(0.8, 2);
  });

  test("keeps what it knows of positions that were not tried", () => {
    const acceptance = new AcceptanceByPosition(2, 10, 0.5);
    acceptance.observe([10, 0], [10, 0], [10, 0]);
    expect(acceptance.accepted(1)).toBeCloseTo(0.25, 5);
  });
});

describe("depth", () => {
  function learnt(accepted: number[]): AcceptanceByPosition {
    const acceptance = new AcceptanceByPosition(accepted.length, 10, 0.5);
    const many = accepted.map(() => 1000);
    for (let i = 0; i < 20; i++) {
      acceptance.observe(
        many,
        many,
        accepted.map((share) => share * 1000),
      );
    }
    return acceptance;
  }
  /** A step of `fixed` + `each` * tokens milliseconds. */
  function costing(fixed: number, each: number): StepCost {
    return new StepCost({
      points: straightLine(fixed, each, 1024),
      contextMs: 0,
      attendMs: 0,
      rowMs: 0,
      sharedFactor: 1,
      forgetting: 0.999,
    });
  }
  const alone = { rows: 1, contextTokens: 0 };

  test("is 0 when drafts are never accepted, or tokens are all the cost", () => {
    expect(chooseDepth(learnt([0, 0, 0]), costing(10, 1), alone, 3)).toBe(0);
    expect(chooseDepth(learnt([0.9, 0.8, 0.7]), costing(0, 1), alone, 3)).toBe(0);
  });

  test("is full when drafts hold and a step costs the same whatever its tokens", () => {
    expect(chooseDepth(learnt([0.9, 0.8, 0.7]), costing(10, 0), alone, 3)).toBe(3);
  });

  test("falls as the batch grows: what one row gains costs every row", () => {
    const acceptance = learnt([0.6, 0.4, 0.25, 0.15]);
    const cost = costing(8, 0.4);
    const depths = [1, 8, 64].map((rows) => chooseDepth(acceptance, cost, { rows, contextTokens: 0 }, 4));
    expect(depths[0]).toBeGreaterThan(depths[2]!);
    expect(depths[2]).toBe(0);
  });

  test("has no better depth under its own model", () => {
    const shares = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(
        shares,
        fc.integer({ min: 1, max: 64 }),
        fc.double({ min: 0.01, max: 3, noNaN: true }),
        (all, rows, each) => {
          const acceptance = learnt(all);
          const cost = costing(8, each);
          const rate = (depth: number): number => {
            const { drawn, computed } = expectedTokens(acceptance, rows, depth);
            return drawn / cost.predict({ tokens: computed, contextTokens: 0, rows });
          };
          const chosen = rate(chooseDepth(acceptance, cost, { rows, contextTokens: 0 }, all.length));
          for (let depth = 0; depth <= all.length; depth++) {
            expect(chosen).toBeGreaterThanOrEqual(rate(depth) - 1e-12);
          }
        },
      ),
    );
  });
});
