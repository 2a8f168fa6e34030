import fc from "fast-check";
import { expect, test } from "vitest";
import { Bias } from "../dist/policy/bias.js";

test("predictions that hold are left alone, or trusted a little more", () => {
  const bias = new Bias(0.9);
  expect(bias.factor).toBe(1);
  for (let i = 0; i < 200; i++) bias.observe(100, 95);
  expect(bias.factor).toBeGreaterThan(0.9);
  expect(bias.factor).toBeLessThanOrEqual(1.05);
});

test("a machine that has become twice as slow is known within some ten requests", () => {
  const bias = new Bias(0.95);
  for (let i = 0; i < 12; i++) bias.observe(200, 400);
  expect(bias.factor).toBeGreaterThan(1.8);
});

test("what a stall taught is forgotten soon", () => {
  const bias = new Bias(0.95);
  for (let i = 0; i < 60; i++) bias.observe(100, 5000);
  expect(bias.factor).toBeGreaterThan(7);
  for (let i = 0; i < 150; i++) bias.observe(100, 100);
  expect(bias.factor).toBeLessThan(2);
});

test("the stretched prediction suffices as often as it should, whatever the errors", () => {
  const errors = fc.array(fc.double({ min: 0.3, max: 4, noNaN: true }), { minLength: 5, maxLength: 30 });
  fc.assert(
    fc.property(errors, fc.constantFrom(0.8, 0.9, 0.95), (ratios, share) => {
      const bias = new Bias(share);
      let kept = 0;
      let seen = 0;
      for (let round = 0; round < 4000; round++) {
        const ratio = ratios[(round * 7) % ratios.length]!;
        if (round >= 2000) {
          seen++;
          if ((1000 * ratio + 5) / 1005 <= bias.factor) kept++;
        }
        bias.observe(1000, 1000 * ratio);
      }
      expect(kept / seen).toBeGreaterThan(share - 0.1);
      expect(bias.factor).toBeGreaterThanOrEqual(1 / 8 - 1e-9);
      expect(bias.factor).toBeLessThanOrEqual(8 + 1e-9);
    }),
  );
});
