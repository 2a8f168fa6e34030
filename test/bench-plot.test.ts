import fc from "fast-check";
import { expect, test } from "vitest";
import { axisTicks, linearScale, logScale } from "../dist/report/axis.js";
import { drawFigure } from "../dist/report/svg.js";

const positive = fc.double({ min: 1e-3, max: 1e9, noNaN: true });

test("axes hold their values and tick within themselves", () => {
  fc.assert(
    fc.property(positive, positive, fc.boolean(), (a, b, logarithmic) => {
      const [low, high] = [Math.min(a, b), Math.max(a, b)];
      const scale = (logarithmic ? logScale : linearScale)(logarithmic ? low : 0, high, 0, 100);
      for (const value of [low, high]) {
        expect(scale.place(value)).toBeGreaterThan(-1e-6);
        expect(scale.place(value)).toBeLessThan(100 + 1e-6);
      }
      const ticks = axisTicks(scale);
      expect(ticks.length).toBeGreaterThanOrEqual(2);
      expect(ticks.length).toBeLessThanOrEqual(12);
      for (const tick of ticks) expect(scale.place(tick)).toBeLessThan(100 + 1e-6);
    }),
  );
});

test("a bar's height is in proportion, and what was not measured draws none", () => {
  const svg = drawFigure({
    kind: "bars",
    title: "a < b & c",
    valueLabel: "tok/s",
    groups: ["one", "two"],
    series: [
      { name: "ours", values: [10, 20] },
      { name: "theirs", values: [5, null] },
    ],
  });
  const heights = [...svg.matchAll(/height="([\d.]+)" fill="#(?:0072b2|e69f00)"/g)].map((match) =>
    Number(match[1]),
  );
  const bars = heights.filter((height) => height !== 12);
  expect(bars).toHaveLength(3);
  expect(bars[2]! / bars[0]!).toBeCloseTo(2, 2);
  expect(bars[0]! / bars[1]!).toBeCloseTo(2, 2);
  expect(svg).toContain("a &#60; b &#38; c");
});

test("ratios stand on 1: half is as far below it as twice is above; numbers of narrow bars stand upright", () => {
  const drawn = (series: number) =>
    drawFigure({
      kind: "bars",
      ratios: true,
      title: "Ratios",
      valueLabel: "ratio",
      groups: ["a", "b", "c", "d", "e", "f"],
      series: Array.from({ length: series }, (_, i) => ({
        name: `s${i}`,
        values: [2, 0.5, 1, null, 1.5, 0.75],
        spans: [[1.5, 2.5], [0.4, 0.6], null, null, [1.5, 1.5], [0.5, 1.5]],
      })),
    });
  const one = drawn(1);
  const bars = [
    ...one.matchAll(/<rect x="[\d.]+" y="([\d.]+)" width="[\d.]+" height="([\d.]+)" fill="#0072b2"/g),
  ]
    .map(([, y, height]) => ({ y: Number(y), height: Number(height) }))
    .filter(({ height }) => height !== 12);
  expect(bars).toHaveLength(5);
  expect(bars[0]!.height).toBeCloseTo(bars[1]!.height, 1);
  // One ends where the other begins: at 1.
  expect(bars[0]!.y + bars[0]!.height).toBeCloseTo(bars[1]!.y, 1);
  expect(one).not.toMatch(/rotate\(-90 (?!18 )/);
  expect(drawn(6).match(/rotate\(-90 (?!18 )/g)).toHaveLength(6 * 3);
  expect(drawn(6)).not.toContain("NaN");
});

test("lines are drawn through all points, on logarithmic axes too", () => {
  for (const logarithmic of [true, false]) {
    const svg = drawFigure({
      kind: "lines",
      title: "Decode",
      valueLabel: "tok/s",
      xLabel: "sequences",
      logarithmic,
      series: [
        {
          name: "ours",
          points: [
            [1, 100],
            [8, 500],
            [32, 900],
          ],
        },
      ],
    });
    expect(svg.match(/<circle /g)).toHaveLength(3);
    expect(svg).not.toContain("NaN");
  }
});

test("a roofline has a line a roof, a shape a point and a name for each, points as far under the roof as they are", () => {
  const svg = drawFigure({
    kind: "roofline",
    title: "Roofline",
    valueLabel: "GMAC/s",
    xLabel: "MAC/byte",
    slopes: [
      { name: "cache", value: 40 },
      { name: "memory", value: 10 },
    ],
    levels: [{ name: "int8", value: 1024 }],
    series: [
      {
        name: "decode",
        points: [
          { label: "gate", x: 2, y: 16 },
          { label: "down", x: 2, y: 64 },
        ],
      },
      { name: "prefill", points: [{ label: "gate", x: 64, y: 512 }] },
    ],
  });
  expect(svg.match(/stroke-width="1.5"/g)).toHaveLength(3);
  for (const name of ["cache", "memory", "int8", "decode", "prefill", "gate", "down"]) {
    expect(svg).toContain(`>${name}</text>`);
  }
  const heights = [...svg.matchAll(/translate\([\d.]+ ([\d.]+)\)" fill="#(?:0072b2|e69f00)"/g)].map((match) =>
    Number(match[1]),
  );
  expect(heights).toHaveLength(3);
  // From 16 to 64 is two octaves, from 64 to 512 three.
  expect((heights[1]! - heights[2]!) / (heights[0]! - heights[1]!)).toBeCloseTo(3 / 2, 2);
  expect(svg).not.toContain("NaN");
});
