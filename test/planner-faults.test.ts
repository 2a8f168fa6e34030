import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { phaseResults, phasesOf } from "../dist/simulate/serving/phases.js";
import { faultsOf, parseFault } from "../dist/simulate/serving/planned-faults.js";
import { simulatePlan } from "../dist/simulate/serving/planner.js";
import { checkPlannerSettings } from "../dist/simulate/serving/planner-settings.js";
import { plan } from "./plan-command.js";

/** `npm run simulate -- plan --fault`: what a planner may plan to go wrong, and what is told of it. */

const PAIRS = 8;
const seconds = fc.integer({ min: 0, max: 1_000_000 }).map((tenths) => tenths / 10);
const span = fc
  .tuple(seconds, fc.integer({ min: 1, max: 10_000 }))
  .map(([from, tenths]) => [from, Number((from + tenths / 10).toFixed(1))] as const);
const pair = fc.nat({ max: PAIRS - 1 });
const lanes = fc.tuple(
  fc.constantFrom("prefill", "decode", "pair"),
  fc.oneof(
    pair.map(String),
    fc.tuple(pair, pair).map(([a, b]) => `${Math.min(a, b)}-${Math.max(a, b)}`),
    fc.constant("*"),
  ),
);
const lane = lanes.map((parts) => parts.join("."));
const actor = fc.oneof(lane, fc.constantFrom("scheduler", "router", "tuner"));
const factor = fc.integer({ min: 11, max: 999 }).map((tenths) => tenths / 10);
const valid = fc.oneof(
  fc.record({ kind: fc.constant("kill"), who: actor, when: fc.oneof(seconds, span) }),
  fc.record({ kind: fc.constantFrom("pause", "full"), who: actor, when: span }),
  fc.record({ kind: fc.constant("slow"), who: lane, when: span, factor }),
  fc.record({ kind: fc.constant("step-fails"), who: lane, when: seconds }),
);

function written(fault: { kind: string; who: string; when: number | readonly number[]; factor?: number }) {
  const { kind, who, when, factor: times } = fault;
  return `${kind}:${who}@${typeof when === "number" ? when : when.join("..")}${times ? `x${times}` : ""}`;
}

describe("what is written", () => {
  test("is read as it was meant", () => {
    fc.assert(
      fc.property(valid, (fault) => {
        const text = written(fault);
        const read = parseFault(text);
        expect(read).toMatchObject({ text, kind: fault.kind });
        if (typeof read === "string") return;
        const [from, to] = typeof fault.when === "number" ? [fault.when] : fault.when;
        expect(read.atMs).toBeCloseTo(1000 * from!, 6);
        if (to === undefined) expect(read.untilMs).toBeUndefined();
        else expect(read.untilMs).toBeCloseTo(1000 * to, 6);
        expect(read.factor).toBe("factor" in fault ? fault.factor : undefined);
      }),
    );
  });

  test("strikes the actors that are named, each once", () => {
    fc.assert(
      fc.property(valid, ({ who, ...rest }) => {
        const read = parseFault(written({ who, ...rest }));
        if (typeof read === "string") throw new Error(read);
        const actors = faultsOf(read, PAIRS).map((one) => one.actor);
        const [kind, which = ""] = who.split(".");
        const [first = 0, last = first] = which === "*" ? [0, PAIRS - 1] : which.split("-").map(Number);
        const kinds = kind === "pair" ? ["prefill", "decode"] : [kind];
        const expected =
          which === ""
            ? [who]
            : Array.from({ length: last - first + 1 }, (_, i) => first + i).flatMap((n) =>
                kinds.map((name) => `${name}.${n}`),
              );
        expect(actors).toEqual(expected);
      }),
    );
  });

  test("is refused with a sentence that quotes it, whatever it is", () => {
    const near = fc.tuple(valid.map(written), fc.nat({ max: 40 }), fc.string({ maxLength: 3 }));
    const text = fc.oneof(
      fc.string(),
      near.map(([good, at, more]) => good.slice(0, at) + more + good.slice(at + more.length)),
    );
    fc.assert(
      fc.property(text, (one) => {
        const read = parseFault(one);
        if (typeof read === "string") expect(read).toContain(one);
        else expect(read.untilMs ?? Number.POSITIVE_INFINITY).toBeGreaterThan(read.atMs);
      }),
    );
  });
});

describe("the command", () => {
  test.each([
    ["kill", /config_invalid: "faults" \(--fault\) .*KIND:WHO@SECONDS/],
    ["burn:decode.0@1", /config_invalid: .*burn is none of kill, slow/],
    ["kill:gateway@1", /config_invalid: .*gateway is none of/],
    ["kill:decode.2-1@1", /config_invalid: .*decode.2-1 is none of/],
    ["kill:decode.2@1", /config_invalid: "faults" .*of 2 pairs the last is number 1/],
    ["slow:decode.0@1..2", /config_invalid: .*slow needs a factor/],
    ["slow:decode.0@1x2", /config_invalid: .*slow needs an end/],
    ["slow:decode.0@1..2x0.5", /config_invalid: .*over 1 to 10000 times/],
    ["slow:router@1..2x2", /config_invalid: .*only lanes take steps/],
    ["kill:decode.0@5..5", /config_invalid: .*ends after it has begun/],
    ["step-fails:decode.0@1..2", /config_invalid: .*step-fails has not an end/],
  ])("refuses %s", async (fault, why) => {
    const { code, err } = await plan("--pairs", "2", "--rate", "4", "--fault", fault);
    expect(err).toMatch(why);
    expect(code).toBe(1);
  });

  test("tells what a lane's death did, before, during and after, and marks it in the plots", async () => {
    const directory = mkdtempSync(join(tmpdir(), "faults-"));
    const [json, svg] = [join(directory, "out.json"), join(directory, "plot")];
    const config = join(directory, "plan.yaml");
    writeFileSync(config, "pairs: 2\nrate: 24\nrequests: 480\nfaults: [kill:pair.1@8..14]\n");
    const { code, out, err } = await plan("--config", config, "--json", json, "--svg", svg);
    expect(err).not.toMatch(/invalid/);
    expect(code).toBe(0);
    for (const part of [
      "What happened: actors started again 2 times",
      "before",
      "during",
      "after",
      "goodput/s",
    ])
      expect(out).toContain(part);
    expect(out).toMatch(/kill:pair\.1@8\.\.14 +2 +8\.00 +14\.0/);

    const { faults } = JSON.parse(readFileSync(json, "utf8")).points[0];
    const actors = faults.struck[0].strikes.map(({ fault }: { fault: { actor: string } }) => fault.actor);
    expect(actors.sort()).toEqual(["decode.1", "prefill.1"]);
    expect(faults.resumptions).toBeGreaterThan(0);
    const [before, during, after] = faults.phases;
    const [wasBefore, wasDuring, wasAfter] = faults.without.phases;
    // Until something happens, nothing differs.
    expect(before).toEqual(wasBefore);
    expect(during.ttftMs.p99).toBeGreaterThan(wasDuring.ttftMs.p99);
    expect(during.stillMs).toBeGreaterThan(wasDuring.stillMs);
    expect(after.tpotMs.p50).toBeLessThan(1.5 * wasAfter.tpotMs.p50);

    const plots = [1, 2, 3, 4, 5, 6].map((n) => readFileSync(`${svg}-${n}.svg`, "utf8"));
    expect(plots.map((plot) => plot.includes("kill:pair.1@8..14"))).toEqual([
      false,
      false,
      true,
      true,
      true,
      true,
    ]);
    for (const plot of plots) expect(plot).not.toMatch(/NaN|Infinity/);
  }, 60_000);
});

const planned = (data: object) => simulatePlan(checkPlannerSettings(data, () => "a test")).points;
const one = (data: object) => planned(data)[0]!;

test("a lane at half speed takes twice as long for its tokens, until it has recovered", () => {
  const asked = { rate: 1, requests: 60, sets: "40x50", speculation: "off" };
  const { faults } = one({ ...asked, faults: ["slow:decode.0@20..40x2"] });
  const [before, during, after] = faults!.phases;
  expect(during!.tpotMs.p50 / before!.tpotMs.p50).toBeCloseTo(2, 1);
  expect(after!.tpotMs.p50 / before!.tpotMs.p50).toBeCloseTo(1, 1);
});

test.each([
  "kill:*",
  "kill:scheduler@3..4",
  "kill:router@3",
  "kill:tuner@3..9",
  "pause:pair.0@3..4",
  "full:decode.*@3..4",
  "step-fails:prefill.0@3",
  "slow:pair.1@3..6x4",
])("%s leaves no request unanswered, and equal runs for equal seeds", (fault) => {
  const faults = fault === "kill:*" ? ["kill:pair.*@3..5", "kill:scheduler@3.5"] : [fault];
  const asked = { pairs: 2, rate: 10, requests: 80, maxTokens: 32, faults };
  const { result, requests, faults: found } = one(asked);
  // One whose step fails by itself is at fault as far as a lane can tell.
  const lost = fault.startsWith("step-fails") ? ["done", "lane_failed"] : ["done"];
  expect(requests.map(({ outcome }) => outcome).filter((outcome) => !lost.includes(outcome))).toEqual([]);
  expect(requests).toHaveLength(80);
  expect(found!.struck.flatMap(({ strikes }) => strikes).length).toBeGreaterThan(0);
  expect(one(asked).result).toEqual(result);
});

test("a death lasts as long as was planned, and what comes after the run's end is said to be no part of it", () => {
  const asked = { rate: 8, requests: 40, maxTokens: 16, faults: ["kill:decode.0@2..3.5", "kill:tuner@900"] };
  const { struck } = one(asked).faults!;
  const [death] = struck[0]!.strikes;
  expect(death!.fromMs).toBeCloseTo(2000, 6);
  expect(death!.toMs).toBeGreaterThanOrEqual(3500);
  expect(death!.toMs).toBeLessThan(3600);
  expect(struck[1]!.strikes).toEqual([]);
});

test("searches and sweeps meet the faults in every run", () => {
  const asked = { sets: "400x40:1", requests: 300, sloTtftMs: 300 };
  const pairs = (faults: string[]) =>
    simulatePlan(
      checkPlannerSettings({ ...asked, rate: 40, pairs: 2, find: "pairs", faults }, () => "a test"),
    ).found[0]!.pairs!;
  expect(pairs(["kill:pair.0@2..6"])).toBeGreaterThan(pairs([]));
  const points = planned({ ...asked, rate: "4,8", faults: ["pause:prefill.0@4..6"] });
  expect(points.map(({ faults }) => faults!.phases.length)).toEqual([3, 3]);
  expect(points.map(({ faults }) => faults!.without)).toEqual([undefined, undefined]);
});

test("phases cover a run from end to end, and faults that overlap are one", () => {
  const fault = { kind: "kill", actor: "tuner", when: { kind: "time", atMs: 0 } } as const;
  const strike = fc
    .tuple(fc.nat({ max: 900 }), fc.nat({ max: 300 }), fc.boolean())
    .map(([fromMs, ms, back]) => ({ fault, fromMs, toMs: back ? fromMs + ms : Number.POSITIVE_INFINITY }));
  fc.assert(
    fc.property(fc.array(strike, { minLength: 1, maxLength: 8 }), (strikes) => {
      const phases = phasesOf(strikes, 0, 1000);
      expect(phases[0]!.fromMs).toBe(0);
      expect(phases.at(-1)!.toMs).toBe(1000);
      for (const [i, phase] of phases.entries()) {
        if (i > 0) expect(phase.fromMs).toBe(phases[i - 1]!.toMs);
        if (i > 0) expect(phase.disturbed).not.toBe(phases[i - 1]!.disturbed);
      }
      for (const { fromMs, toMs } of strikes) {
        const own = phases.find((phase) => phase.disturbed && phase.fromMs <= fromMs && phase.toMs >= fromMs);
        expect(own!.toMs).toBeGreaterThanOrEqual(Math.min(toMs, 1000));
      }
    }),
  );
});

test("a phase counts those under way in it, and goodput by their ends", () => {
  const outcome = (atMs: number, totalMs: number) => ({
    atMs,
    totalMs,
    set: "",
    outcome: "done",
    promptTokens: 1,
    cachedTokens: 0,
    outputTokens: 2,
    queuedMs: 0,
    ttftMs: 10,
    tpotMs: 10,
    stillMs: 10,
    draftTokens: 0,
    acceptedTokens: 0,
  });
  const requests = [outcome(0, 500), outcome(800, 400), outcome(1500, 1000), outcome(2500, 100)];
  const fault = { kind: "kill", actor: "decode.0", when: { kind: "time", atMs: 1000 } } as const;
  const phases = phasesOf([{ fault, fromMs: 1000, toMs: 2000 }], 0, 2600);
  const results = phaseResults(phases, requests, { ttftMs: 0, tpotMs: 0 });
  expect(results.map(({ name, requests: met, goodputPerSecond }) => [name, met, goodputPerSecond])).toEqual([
    ["before", 1, 1],
    ["during", 2, 1],
    ["after", 1, 2000 / 600],
  ]);
});
