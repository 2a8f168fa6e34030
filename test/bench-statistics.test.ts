import fc from "fast-check";
import { expect, test } from "vitest";
import { ascending, pairedRatio, percentile, summarize } from "../dist/report/statistics.js";

const measurements = fc.array(fc.double({ min: 1e-3, max: 1e6, noNaN: true }), {
  minLength: 1,
  maxLength: 50,
});

test("percentiles of a known set are interpolated between ranks", () => {
  const sorted = [10, 20, 30, 40];
  expect([0, 25, 50, 90, 100].map((p) => percentile(sorted, p))).toEqual([10, 17.5, 25, 37, 40]);
});

test("a percentile lies within the values, rises with p, and splits them as it says", () => {
  fc.assert(
    fc.property(
      measurements,
      fc.integer({ min: 0, max: 100 }),
      fc.integer({ min: 0, max: 100 }),
      (values, a, b) => {
        const sorted = ascending(values);
        const [low, high] = [percentile(sorted, Math.min(a, b)), percentile(sorted, Math.max(a, b))];
        expect(low).toBeGreaterThanOrEqual(sorted[0]!);
        expect(high).toBeLessThanOrEqual(sorted[sorted.length - 1]! * (1 + 1e-12));
        expect(low).toBeLessThanOrEqual(high * (1 + 1e-12));
        const notAbove = sorted.filter((value) => value <= percentile(sorted, a) * (1 + 1e-12)).length;
        expect(notAbove).toBeGreaterThanOrEqual(Math.floor((a / 100) * (sorted.length - 1)) + 1);
      },
    ),
  );
});

test("a summary does not depend on order and leaves its input alone", () => {
  fc.assert(
    fc.property(measurements, (values) => {
      const before = [...values];
      const { mean, ...ranks } = summarize(values);
      const { mean: reversedMean, ...reversedRanks } = summarize([...values].reverse());
      expect(ranks).toEqual(reversedRanks);
      expect(reversedMean).toBeCloseTo(mean, 6);
      expect(values).toEqual(before);
    }),
  );
});

test("no values give no figures", () => {
  const summary = summarize([]);
  expect(summary.count).toBe(0);
  expect([summary.mean, summary.p50, summary.p99]).toEqual([Number.NaN, Number.NaN, Number.NaN]);
});

test("a paired ratio cancels what slows both runs of a pair alike", () => {
  fc.assert(
    fc.property(measurements, fc.double({ min: 0.1, max: 10, noNaN: true }), (theirs, factor) => {
      const ratio = pairedRatio(
        theirs.map((value) => value * factor),
        theirs,
      );
      expect(ratio.pairs).toBe(theirs.length);
      for (const value of [ratio.min, ratio.median, ratio.max]) expect(value).toBeCloseTo(factor, 9);
    }),
  );
});

test("runs that do not pair up are refused", () => {
  expect(() => pairedRatio([1, 2], [1])).toThrow(RangeError);
  expect(() => pairedRatio([], [])).toThrow(RangeError);
});
