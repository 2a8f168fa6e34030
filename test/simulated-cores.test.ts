import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type RunningStep, SimulatedCores } from "../dist/engine/simulated-cores.js";
import { ascendingFit } from "../dist/report/statistics.js";

/** Steps of lanes that share a machine's cores, under a clock that the test moves. */

const FACTORS = { prefill: 2, decode: 1.5 };

function machine() {
  const clock = { now: 0 };
  return { clock, cores: new SimulatedCores(FACTORS, () => clock.now) };
}

/** Moves the clock to the step's end, as a lane does: asked when it will be, then again. */
function end(clock: { now: number }, step: RunningStep): number {
  for (let left = step.leftMs; left > 0; left = step.leftMs) clock.now += left;
  return clock.now;
}

test("a step alone takes its time", () => {
  const { clock, cores } = machine();
  clock.now = 7;
  const step = cores.begin("prefill", 20);
  expect(end(clock, step)).toBeCloseTo(27, 5);
  expect(step.ranMs).toBeCloseTo(20, 5);
  expect(step.sharedMs).toBe(0);
});

test("a step is slower for as long as another kind's runs beside it, and no longer", () => {
  const { clock, cores } = machine();
  const prompt = cores.begin("prefill", 100);
  clock.now = 10;
  const decoding = cores.begin("decode", 20);
  expect(end(clock, decoding)).toBeCloseTo(40, 5);
  expect(decoding.sharedMs).toBeCloseTo(30, 5);
  // 10 ms alone, 30 ms at half speed, then what is left.
  expect(end(clock, prompt)).toBeCloseTo(40 + 75, 5);
  expect(prompt.sharedMs).toBeCloseTo(30, 5);
  expect(prompt.ranMs).toBeCloseTo(115, 5);
});

test("one that begins before the end that was foretold puts it off", () => {
  const { clock, cores } = machine();
  const prompt = cores.begin("prefill", 100);
  expect(prompt.leftMs).toBeCloseTo(100, 5);
  clock.now = 50;
  cores.begin("decode", 1000);
  expect(prompt.leftMs).toBeCloseTo(100, 5);
  expect(end(clock, prompt)).toBeCloseTo(150, 5);
});

test("lanes of one kind share what their kind has", () => {
  const { clock, cores } = machine();
  const [one, other] = [cores.begin("prefill", 10), cores.begin("prefill", 10)];
  expect(end(clock, one)).toBeCloseTo(20, 5);
  expect(other.leftMs).toBe(0);
  const [first, second, prompt] = [
    cores.begin("decode", 10),
    cores.begin("decode", 10),
    cores.begin("prefill", 100),
  ];
  expect(end(clock, first) - 20).toBeCloseTo(30, 5);
  expect(second.leftMs).toBe(0);
  expect(end(clock, prompt) - 20).toBeCloseTo(30 + 85, 5);
});

describe("whatever runs", () => {
  const begun = fc.record({
    at: fc.nat({ max: 200 }),
    role: fc.constantFrom("prefill" as const, "decode" as const),
    ms: fc.integer({ min: 1, max: 50 }),
  });
  const works = fc.array(begun, { minLength: 1, maxLength: 8 });
  const looks = fc.array(fc.double({ min: 0, max: 800, noNaN: true }), { maxLength: 20 });

  /** When each has ended, looked at besides at these times. */
  function ends(steps: { at: number; role: "prefill" | "decode"; ms: number }[], looked: number[]) {
    const { clock, cores } = machine();
    const ran: RunningStep[] = [];
    const events = [
      ...steps.map((step) => ({ at: step.at, act: () => ran.push(cores.begin(step.role, step.ms)) })),
      ...looked.map((at) => ({ at, act: () => ran.map(({ leftMs }) => leftMs) })),
    ].sort((a, b) => a.at - b.at);
    for (const { at, act } of events) {
      clock.now = at;
      act();
    }
    for (const step of ran) end(clock, step);
    return ran.map(({ ranMs, sharedMs }) => ({ ranMs, sharedMs }));
  }

  test("its time does not depend on who looks when", () => {
    fc.assert(
      fc.property(works, looks, (steps, looked) => {
        const plain = ends(steps, []);
        for (const [i, { ranMs, sharedMs }] of ends(steps, looked).entries()) {
          expect(ranMs).toBeCloseTo(plain[i]!.ranMs, 4);
          expect(sharedMs).toBeCloseTo(plain[i]!.sharedMs, 4);
        }
      }),
    );
  });

  test("it takes no less than alone, and no longer than with all beside it to its end", () => {
    fc.assert(
      fc.property(works, (steps) => {
        const sorted = [...steps].sort((a, b) => a.at - b.at);
        for (const [i, { ranMs, sharedMs }] of ends(sorted, []).entries()) {
          const { role, ms } = sorted[i]!;
          const alike = sorted.filter((one) => one.role === role).length;
          expect(ranMs).toBeGreaterThan(ms - 1e-4);
          expect(ranMs).toBeLessThan(alike * FACTORS[role] * ms + 1e-4);
          expect(sharedMs).toBeLessThan(ranMs + 1e-9);
        }
      }),
    );
  });
});

test("a fit that ascends is near what was measured, and keeps what ascends already", () => {
  expect(ascendingFit([1, 3, 2, 4])).toEqual([1, 2.5, 2.5, 4]);
  fc.assert(
    fc.property(fc.array(fc.integer({ min: -100, max: 100 })), (values) => {
      const fit = ascendingFit(values);
      expect(fit).toHaveLength(values.length);
      for (const [i, value] of fit.entries()) if (i > 0) expect(value).toBeGreaterThanOrEqual(fit[i - 1]!);
      const sum = (all: readonly number[]) => all.reduce((a, b) => a + b, 0);
      expect(sum(fit)).toBeCloseTo(sum(values), 6);
      const sorted = [...values].sort((a, b) => a - b);
      expect(ascendingFit(sorted)).toEqual(sorted);
    }),
  );
});
