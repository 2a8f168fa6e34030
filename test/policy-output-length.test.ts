import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { OutputLengths } from "../dist/policy/output-length.js";

const query = (more: object = {}) => ({
  offline: false,
  promptTokens: 100,
  minTokens: 0,
  maxTokens: 1000,
  ...more,
});

function learnt(lengths: readonly number[], more: object = {}): OutputLengths {
  const model = new OutputLengths(64);
  for (const length of lengths) model.observe(query(more), length, false);
  return model;
}

describe("the predicted length of an answer", () => {
  test("is the request's own limit while too little is known", () => {
    expect(learnt([]).quantile(query(), 0.9)).toBe(1000);
    expect(learnt(Array(8).fill(10)).quantile(query(), 0.9)).toBe(1000);
    expect(learnt(Array(9).fill(10)).quantile(query(), 0.9)).toBe(10);
  });

  test("is learnt for each class and prompt kind; a new kind borrows from its class", () => {
    const model = learnt(Array(20).fill(10));
    expect(model.quantile(query({ offline: true }), 0.5)).toBe(1000);
    expect(model.quantile(query({ promptTokens: 4000 }), 0.5)).toBe(10);
    for (let i = 0; i < 20; i++) model.observe(query({ promptTokens: 4000 }), 300, false);
    expect(model.quantile(query({ promptTokens: 4000 }), 0.5)).toBe(300);
    expect(model.quantile(query(), 0.5)).toBe(10);
  });

  test("follows a change", () => {
    const model = learnt(Array(500).fill(10));
    for (let i = 0; i < 64; i++) model.observe(query(), 200, false);
    expect(model.quantile(query(), 0.9)).toBe(200);
  });

  test("grows with what has been drawn already", () => {
    const model = learnt([...Array(30).fill(10), ...Array(30).fill(100)]);
    expect(model.quantile(query(), 0.4)).toBe(10);
    expect(model.quantile(query(), 0.4, 50)).toBe(100);
    expect(model.quantile(query(), 0.4, 100)).toBe(1000);
  });

  test("takes answers that were cut for longer than any, and ignores those that could not end", () => {
    const model = learnt(Array(20).fill(10));
    for (let i = 0; i < 44; i++) model.observe(query({ maxTokens: 50 }), 50, true);
    expect(model.quantile(query(), 0.9)).toBe(1000);
    const other = learnt(Array(20).fill(10));
    for (let i = 0; i < 64; i++) other.observe(query({ minTokens: 2 ** 31 }), 900, true);
    expect(other.quantile(query(), 0.9)).toBe(10);
  });

  test("stays between what must be and what may be, and covers the share it says", () => {
    const lengths = fc.array(fc.integer({ min: 1, max: 900 }), { minLength: 1, maxLength: 200 });
    const share = fc.double({ min: 0.05, max: 0.95, noNaN: true });
    fc.assert(
      fc.property(lengths, share, fc.nat(999), fc.nat(999), (seen, q, minTokens, produced) => {
        const model = learnt(seen);
        const tokens = model.quantile(query({ minTokens }), q, produced);
        expect(tokens).toBeGreaterThanOrEqual(Math.min(1000, Math.max(minTokens, produced + 1)));
        expect(tokens).toBeLessThanOrEqual(1000);
        const last = seen.slice(-64).filter((length) => length > produced);
        const covered = last.filter((length) => length <= tokens).length;
        expect(covered).toBeGreaterThanOrEqual(Math.min(last.length, q * last.length));
      }),
    );
  });
});
