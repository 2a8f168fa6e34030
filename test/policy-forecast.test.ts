import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Forecast } from "../dist/policy/forecast.js";
import { StepTimes } from "../dist/policy/step-times.js";

/** Steps of 10 ms and 2 more a token. */
const times = (fixedMs: number, tokenMs: number) =>
  new StepTimes(
    Float64Array.of(1, 64),
    Float64Array.of(fixedMs + tokenMs, fixedMs + 64 * tokenMs, 0, 0, 0),
    2,
  ).toArray();
const forecast = (pairs = 1) => new Forecast({ pairs, maxRows: 64, decodeCost: times(5, 0.5) });
const NOTHING = { promptTokens: 0 };

describe("the wait for the first token", () => {
  const report = (queuedTokens: number, tokenMs = 1, more: object = {}) => ({
    queuedTokens,
    lastRows: 1,
    lastShared: 0,
    cost: times(0, tokenMs),
    ...more,
  });

  test("is nothing, and a prompt takes no time, while no lane has computed any: a guess refuses nobody", () => {
    const f = forecast();
    f.prefill(0, report(0, 1, { lastRows: 0 }), 0);
    f.sent(1000, 1);
    expect(f.promptMs(100)).toBe(0);
    expect(f.waitMs({ promptTokens: 100 }, 0)).toBe(0);
  });

  test("counts what lanes report, what is under way to them, and what waits before it", () => {
    const f = forecast();
    f.prefill(0, report(50), 0);
    f.sent(30, 1);
    expect(f.waitMs({ promptTokens: 20 }, 0)).toBeCloseTo(100);
    f.prefill(0, report(80), 20);
    expect(f.waitMs({ promptTokens: 20 }, 0)).toBeCloseTo(100);
    expect(f.promptMs(100)).toBeCloseTo(100);
    expect(f.promptMs(1000)).toBeCloseTo(1000);
  });

  test("counts what may have missed the last report", () => {
    const f = forecast();
    f.prefill(0, report(0), 0);
    f.sent(30, 10);
    f.prefill(0, report(0), 11);
    expect(f.waitMs(NOTHING, 0)).toBeCloseTo(30);
    f.prefill(0, report(0), 31);
    expect(f.waitMs(NOTHING, 0)).toBe(0);
  });

  test("is shared out over pairs, and no earlier than admission", () => {
    const f = forecast(2);
    f.prefill(0, report(0, 2), 0);
    expect(f.waitMs({ promptTokens: 100 }, 0)).toBeCloseTo(100);
    expect(f.waitMs({ promptTokens: 100 }, 500)).toBe(500);
  });
});

describe("requests that may decode at once", () => {
  const step = (cost: Float32Array, more: object = {}) => ({
    lastRows: 4,
    lastTokens: 4,
    lastContext: 0,
    lastShared: 0,
    drawnPerRow: 1,
    cost,
    ...more,
  });

  test("are all without an objective, and one a pair at least with an impossible one", () => {
    expect(forecast().mostDecoding(0)).toBe(64);
    expect(forecast(2).mostDecoding(0.001)).toBe(2);
  });

  test("are as many as keep to the objective by what the lanes know of their steps", () => {
    const f = forecast();
    expect(f.mostDecoding(30)).toBe(50);
    f.decode(step(times(10, 2)));
    expect(f.mostDecoding(30)).toBe(10);
  });

  test("are more when drafts hold, and fewer beside prefill", () => {
    const f = forecast();
    for (let i = 0; i < 100; i++) f.decode(step(times(10, 2), { drawnPerRow: 2 }));
    expect(f.mostDecoding(15)).toBe(10);
    for (let i = 0; i < 100; i++) f.decode(step(times(10, 2), { lastShared: 1 }));
    expect(f.mostDecoding(60)).toBe(10);
  });

  test("the limit keeps to the objective, and one more does not", () => {
    const shape = fc.record({
      fixedMs: fc.double({ min: 0.1, max: 50, noNaN: true }),
      tokenMs: fc.double({ min: 0, max: 9, noNaN: true }),
    });
    fc.assert(
      fc.property(
        shape,
        fc.double({ min: 0.1, max: 500, noNaN: true }),
        ({ fixedMs, tokenMs }, objective) => {
          const f = forecast();
          f.decode(step(times(fixedMs, tokenMs)));
          const most = f.mostDecoding(objective);
          expect(most === 1 || f.outputTokenMs(most) <= objective).toBe(true);
          expect(most === 64 || f.outputTokenMs(most + 1) > objective).toBe(true);
        },
      ),
    );
  });
});
