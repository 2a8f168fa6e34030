import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Forecast } from "../dist/policy/forecast.js";
import { straightLine } from "../dist/policy/step-cost.js";

const PRIOR = {
  points: straightLine(5, 0.5, 256),
  contextMs: 0,
  attendMs: 0,
  rowMs: 0,
  sharedFactor: 1,
  forgetting: 0.999,
};
const forecast = (pairs = 1) => new Forecast({ pairs, maxRows: 64, prior: PRIOR });
const NOTHING = { promptTokens: 0 };

describe("the wait for the first token", () => {
  test("is nothing, and a prompt takes no time, while no lane has measured any: a guess refuses nobody", () => {
    expect(forecast().promptMs(100)).toBe(0);
    forecast().sent(1000);
    expect(forecast().waitMs({ promptTokens: 100 }, 0)).toBe(0);
  });

  test("counts what lanes report, what is under way to them, and what waits before it", () => {
    const f = forecast();
    f.prefill(0, { queuedTokens: 50, taken: 50, tokenMs: 1 });
    f.sent(30);
    expect(f.waitMs({ promptTokens: 20 }, 0)).toBe(100);
    f.prefill(0, { queuedTokens: 80, taken: 80, tokenMs: 1 });
    expect(f.waitMs({ promptTokens: 20 }, 0)).toBe(100);
    expect(f.promptMs(100)).toBe(100);
  });

  test("is shared out over pairs, and no earlier than admission", () => {
    const f = forecast(2);
    f.prefill(0, { queuedTokens: 0, taken: 0, tokenMs: 2 });
    expect(f.waitMs({ promptTokens: 100 }, 0)).toBe(100);
    expect(f.waitMs({ promptTokens: 100 }, 500)).toBe(500);
  });

  test("forgets what went to a lane that died", () => {
    const f = forecast();
    f.prefill(0, { queuedTokens: 0, taken: 100, tokenMs: 1 });
    f.sent(40);
    f.prefill(0, { queuedTokens: 0, taken: 0, tokenMs: 1 });
    expect(f.waitMs(NOTHING, 0)).toBe(0);
  });
});

describe("requests that may decode at once", () => {
  const step = (rows: number, ms: number) => ({
    lastRows: rows,
    lastTokens: rows,
    lastContext: 0,
    lastMs: ms,
    drawnPerRow: 1,
  });

  test("are all without an objective, and one a pair at least with an impossible one", () => {
    expect(forecast().mostDecoding(0)).toBe(64);
    expect(forecast(2).mostDecoding(0.001)).toBe(2);
  });

  test("are as many as keep to the objective by the steps that were seen", () => {
    const f = forecast();
    for (let i = 0; i < 300; i++) f.decode(step(1 + (i % 16), 10 + 2 * (1 + (i % 16))));
    const most = f.mostDecoding(30);
    expect(most).toBeGreaterThanOrEqual(9);
    expect(most).toBeLessThanOrEqual(11);
  });

  test("the limit is the last that keeps to it, whatever was seen", () => {
    const seen = fc.array(
      fc.tuple(fc.integer({ min: 1, max: 64 }), fc.double({ min: 0.1, max: 500, noNaN: true })),
      { maxLength: 50 },
    );
    fc.assert(
      fc.property(seen, fc.double({ min: 0.1, max: 500, noNaN: true }), (steps, objective) => {
        const f = forecast();
        for (const [rows, ms] of steps) f.decode(step(rows, ms));
        const most = f.mostDecoding(objective);
        expect(most === 1 || f.outputTokenMs(most) <= objective).toBe(true);
        expect(most === 64 || f.outputTokenMs(most + 1) > objective).toBe(true);
      }),
    );
  });
});
