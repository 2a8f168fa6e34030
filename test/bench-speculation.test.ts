import { describe, expect, test } from "vitest";
import { adaptingOf } from "../dist/bench/speculation/adapting.js";
import { idealOf } from "../dist/bench/speculation/ideal.js";
import { configSchema } from "../dist/config/schema.js";

const limits = configSchema.parse({}).speculation;
const text = (length: number, at: (i: number) => number) => Array.from({ length }, (_, i) => at(i));
/** A step of a fixed time and a little a token. */
const stepMs = (tokens: number) => 3 + 0.4 * tokens;

describe("ideal choosers", () => {
  test("gain much where text repeats itself, and the clairvoyant one most", () => {
    const answer = text(120, (i) => i % 7);
    const ideal = idealOf([{ prompt: Uint32Array.from(answer), answer }], limits, stepMs);
    expect(ideal.rule).toBeGreaterThan(2);
    expect(ideal.clairvoyant).toBeGreaterThanOrEqual(ideal.rule);
    expect(ideal.clairvoyant).toBeGreaterThanOrEqual(ideal.bestFixed);
    expect(ideal.bestDepth).toBeGreaterThan(4);
  });

  test("gain nothing where nothing can be foreseen", () => {
    const ideal = idealOf(
      [{ prompt: Uint32Array.of(1, 2, 3), answer: text(200, (i) => 10 + i) }],
      limits,
      stepMs,
    );
    expect(ideal.clairvoyant).toBeCloseTo(1, 9);
    expect(ideal.rule).toBeCloseTo(1, 9);
    expect(ideal.bestDepth).toBe(0);
  });
});

describe("steps until the depth has followed a change of load", () => {
  const span = (name: string, value: number) => ({
    actor: "decode.0",
    name,
    start: 0,
    end: 0,
    request: 0,
    traceId: 0,
    value,
  });
  const steps = (rows: number, depths: readonly number[]) =>
    depths.flatMap((depth) => [span("rows", rows), span("drafts a row", depth)]);

  test("are counted among those with the new number of rows", () => {
    const spans = [
      ...steps(
        1,
        text(50, () => 4),
      ),
      ...steps(8, [...text(30, () => 4), ...text(120, () => 0.5)]),
    ];
    const found = adaptingOf(spans, 8)!;
    expect(found.settled).toBeCloseTo(0.5, 9);
    expect(found.steps).toBeGreaterThan(25);
    expect(found.steps).toBeLessThanOrEqual(30);
    expect(
      adaptingOf(
        steps(
          8,
          text(100, () => 1),
        ),
        8,
      )!.steps,
    ).toBe(0);
  });

  test("are not told from too few", () => {
    expect(
      adaptingOf(
        steps(
          8,
          text(20, () => 1),
        ),
        8,
      ),
    ).toBeUndefined();
  });
});
