import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { StreamServeError } from "../dist/errors.js";
import { decodeRecording, encodeRecording, readRecording } from "../dist/model/recording.js";
import { Random } from "../dist/simulate/random.js";
import { type Arrivals, arrivalTimes } from "../dist/simulate/serving/arrivals.js";
import { fewestThatKeep, highestThatKeeps } from "../dist/simulate/serving/capacity.js";
import { simulatePlan } from "../dist/simulate/serving/planner.js";
import { checkPlannerSettings } from "../dist/simulate/serving/planner-settings.js";
import { openWorkload, traceWorkload } from "../dist/simulate/serving/workload.js";
import { CLI, plan } from "./plan-command.js";

/** `npm run simulate -- plan`: what it is asked, what comes in, what it finds. */

const TRACE = new URL("../bench/data/trace-sample.jsonl", import.meta.url).pathname;
const checked = (data: unknown) => checkPlannerSettings(data, () => "a test");

describe("the command", () => {
  test("prints percentiles, goodput and the use of lanes", async () => {
    const { code, out } = await plan("--pairs", "2", "--rate", "8", "--requests", "100");
    expect(code).toBe(0);
    for (const part of [
      "time to first token",
      "p99",
      "goodput",
      "prefill lanes busy",
      "drafts that held",
      "humaneval",
    ])
      expect(out).toContain(part);
  });

  test("leaves the same JSON for the same seed, and well-formed SVG", async () => {
    const directory = mkdtempSync(join(tmpdir(), "plan-"));
    const at = (name: string) => join(directory, name);
    const args = ["--rate", "2..6:2", "--requests", "60", "--svg", at("sweep")];
    await plan(...args, "--json", at("a.json"));
    await plan(...args, "--json", at("b.json"));
    const json = readFileSync(at("a.json"), "utf8");
    expect(readFileSync(at("b.json"), "utf8")).toBe(json);
    const { points } = JSON.parse(json) as { points: { rate: number; result: { completed: number } }[] };
    expect(points.map(({ rate, result }) => [rate, result.completed])).toEqual([
      [2, 60],
      [4, 60],
      [6, 60],
    ]);
    for (const number of [1, 2, 3]) expectWellFormed(readFileSync(at(`sweep-${number}.svg`), "utf8"));
  });

  test("takes a file, under flags", async () => {
    const file = join(mkdtempSync(join(tmpdir(), "plan-")), "plan.yaml");
    writeFileSync(
      file,
      "rate: 4\nrequests: 50\nsets: { sum: 1, 100x20: 3 }\nsettings: { router: { burden: 2 } }\n",
    );
    const { code, out } = await plan("--config", file, "--rate", "5", "--json", "-");
    expect(code).toBe(0);
    const { plan: read, points } = JSON.parse(out);
    expect(read).toMatchObject({ rate: [5], requests: 50, settings: { router: { burden: 2 } } });
    expect(Object.keys(points[0].bySet)).toEqual(["100x20", "sum"]);
  });

  test.each([
    [["--rate", "fast"], 1, /^config_invalid: "rate" \(--rate\)/],
    [["--rate", "5..1"], 1, /^config_invalid: "rate"/],
    [["--rate", "4", "--users", "3"], 1, /^config_invalid: .* not both/],
    [[], 1, /^config_invalid: Say how requests come/],
    [["--rate", "4", "--router", "nearest"], 1, /^config_invalid: "router.policy"/],
    [["--rate", "4", "--set", "router.burdn=2"], 1, /^config_unknown_key: .*router.burdn/],
    [["--rate", "4", "--sets", "poems:1"], 1, /^config_invalid: .*poems/],
    [["--rate", "4", "--hardware", "abacus"], 1, /^config_invalid: .*abacus/],
    [["--trace", CLI], 1, /^trace_invalid: Line 1 /],
    [["--trace", "/nowhere.jsonl"], 1, /^trace_invalid: .*nowhere/],
    [["--rate", "4", "--set", "engine.kvTokens=abc"], 1, /^config_invalid: "engine.kvTokens"/],
    [["--rate", "4", "--svg", "/nowhere/plot"], 1, /^config_invalid: .* \/nowhere for --svg/],
    [["--rate", "4", "--json", "/nowhere/out.json"], 1, /^config_invalid: .* \/nowhere for --json/],
    [
      ["--rate", "4", "--requests", "4", "--warm-up-seconds", "900"],
      1,
      /^config_invalid: "warmUpSeconds" .*all requests/m,
    ],
    [["--rat", "4"], 2, /unknown option/],
  ] as const)("refuses %j", async (args, status, why) => {
    const { code, err } = await plan(...args);
    expect(err).toMatch(why);
    expect(code).toBe(status);
  });
});

/** Tags that open close again in order; attributes are quoted; no stray ampersand. */
function expectWellFormed(svg: string): void {
  const open: string[] = [];
  const tags = svg.matchAll(/<(\/?)([a-z]+)((?:\s+[\w:-]+="[^"<]*")*)\s*(\/?)>/g);
  let length = 0;
  for (const [tag, closes, name = "", , alone] of tags) {
    length += tag.length;
    if (closes) expect(open.pop()).toBe(name);
    else if (!alone) open.push(name);
  }
  expect(open).toEqual([]);
  const text = svg.replace(/<[^>]*>/g, "");
  expect(text).not.toMatch(/[<>]|&(?!#\d+;)/);
  expect(length).toBe(svg.length - text.length);
  expect(svg).not.toMatch(/NaN|Infinity/);
}

describe("arrivals", () => {
  test.each([
    [{ kind: "poisson" }, 1],
    [{ kind: "constant" }, 0],
    [{ kind: "gamma", cv: 3 }, 3],
    [{ kind: "gamma", cv: 0.5 }, 0.5],
  ] satisfies [Arrivals, number][])("%j have the rate and the spread they should", (arrivals, cv) => {
    const times = arrivalTimes(arrivals, 20, 100_000, new Random(3));
    const gaps = times.map((at, i) => at - (times[i - 1] ?? 0));
    const mean = gaps.reduce((a, b) => a + b) / gaps.length;
    const deviation = Math.sqrt(gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / gaps.length);
    expect(mean).toBeGreaterThan(48);
    expect(mean).toBeLessThan(52);
    expect(deviation / mean).toBeCloseTo(cv, 1);
  });

  test("bursts keep the rate, and come in the on-time alone", () => {
    const times = arrivalTimes({ kind: "bursts", onSeconds: 2, offSeconds: 6 }, 10, 20_000, new Random(4));
    expect(times.every((at) => at % 8000 <= 2000)).toBe(true);
    expect(times.length / (times.at(-1)! / 1000)).toBeCloseTo(10, 0);
  });
});

describe("texts", () => {
  test("recorded sets are read as they were written", () => {
    const text = fc.uint32Array({ max: 65_535, minLength: 1, maxLength: 40 });
    const recording = fc.record({
      set: fc.string(),
      model: fc.string(),
      command: fc.string(),
      maxTokens: fc.integer({ min: 1, max: 1000 }),
      requests: fc.array(fc.record({ prompt: text, answer: text }), { minLength: 1, maxLength: 5 }),
    });
    fc.assert(
      fc.property(recording, (one) => {
        expect(decodeRecording(JSON.parse(JSON.stringify(encodeRecording(one))), "x")).toEqual(one);
      }),
    );
  });

  test("what is no recording is refused by a code, whatever it is", () => {
    const sum = encodeRecording(readRecording("alpaca"));
    const broken = fc.oneof(
      fc.jsonValue(),
      fc.record({ answers: fc.oneof(fc.string(), fc.base64String()) }).map((part) => ({ ...sum, ...part })),
      fc.record({ promptLengths: fc.array(fc.nat(), { maxLength: 3 }) }).map((part) => ({ ...sum, ...part })),
    );
    fc.assert(
      fc.property(broken, (data) => {
        try {
          decodeRecording(data, "x");
        } catch (error) {
          expect(error).toMatchObject({ code: "config_invalid" });
        }
      }),
    );
  });

  test("a set that begins again shares nothing with its first round but the template", () => {
    const sets = [{ recorded: "alpaca", maxTokens: 64, weight: 1 }];
    const { requests } = openWorkload({
      arrivals: { kind: "constant" },
      perSecond: 1,
      count: 160,
      sets,
      seed: 1,
    });
    const prompts = requests.map(({ text }) => [...text().prompt].join());
    expect(new Set(prompts).size).toBe(160);
    expect(new Set(requests.map(({ text }) => text().prompt[0])).size).toBe(1);
  });

  test("prompts of a trace are equal as far as their blocks are", () => {
    const load = { file: TRACE, speed: 2, count: 60, blockTokens: 512, sets: [], seed: 1 };
    const { requests } = traceWorkload(load);
    const lines = readFileSync(TRACE, "utf8").split("\n").slice(0, 60);
    const chains = lines.map((line) => JSON.parse(line).hash_ids as number[]);
    const prompts = requests.map(({ text }) => text().prompt);
    for (let a = 0; a < 60; a++) {
      for (let b = 0; b < a; b++) {
        let blocks = 0;
        while (chains[a]![blocks] !== undefined && chains[a]![blocks] === chains[b]![blocks]) blocks++;
        const [one, other] = [prompts[a]!, prompts[b]!];
        let tokens = 0;
        while (tokens < one.length && one[tokens] === other[tokens]) tokens++;
        const least = Math.min(512 * blocks, one.length, other.length);
        expect(tokens).toBeGreaterThanOrEqual(least);
        // Beyond, tokens agree by chance alone.
        expect(tokens).toBeLessThanOrEqual(least + 3);
      }
    }
    expect(requests[1]!.atMs).toBe((JSON.parse(lines[1]!).timestamp - JSON.parse(lines[0]!).timestamp) / 2);
  });
});

describe("searches", () => {
  test("find the edge from either side", () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.01, max: 5000, noNaN: true }),
        fc.double({ min: 0.1, max: 100, noNaN: true }),
        (edge, start) => {
          const found = highestThatKeeps(start, 0.03, (value) => value <= edge);
          expect(found).toBeLessThanOrEqual(edge);
          expect(found).toBeGreaterThan(edge / 1.04);
        },
      ),
    );
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 4096 }), (edge) => {
        expect(fewestThatKeep(1, 4096, (count) => count >= edge)).toBe(edge);
      }),
    );
    expect(highestThatKeeps(4, 0.03, () => false)).toBe(0);
    expect(fewestThatKeep(1, 64, () => false)).toBeUndefined();
  });

  test("the rate found keeps the objectives, and a good deal more does not", () => {
    const asked = { pairs: 1, sets: "400x40:1", requests: 300, sloTtftMs: 300 };
    const { found, points } = simulatePlan(checked({ ...asked, find: "rate" }));
    const rate = found[0]!.rate;
    expect(points.find((point) => point.rate === rate)!.kept).toBe(true);
    expect(simulatePlan(checked({ ...asked, rate: rate * 1.2 })).points[0]!.kept).toBe(false);
    const needed = simulatePlan(checked({ ...asked, rate: rate * 2.5, find: "pairs" })).found[0]!.pairs!;
    expect(needed).toBeGreaterThanOrEqual(2);
    expect(needed).toBeLessThanOrEqual(4);
  }, 60_000);
});

test("whatever a plan holds, it is taken or refused by a code", () => {
  const value = fc.oneof(fc.jsonValue(), fc.constantFrom("1..3", "alpaca:1", "off", 4, -1, "2/3"));
  const keys = ["rate", "users", "pairs", "trace", "sets", "cv", "bursts", "find", "requests", "speculation"];
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom(...keys, "other"), value), (data) => {
      try {
        checked(data);
      } catch (error) {
        expect(error).toBeInstanceOf(StreamServeError);
        expect((error as StreamServeError).code).toMatch(/^config_/);
      }
    }),
  );
});

test("real drafters find in recorded answers what they would find in the model's", () => {
  const { points } = simulatePlan(checked({ rate: 2, requests: 60, sets: "sum", sloTpotMs: 0 }));
  const plain = simulatePlan(
    checked({ rate: 2, requests: 60, sets: "sum", sloTpotMs: 0, speculation: "off" }),
  );
  const [adaptive, off] = [points[0]!.result, plain.points[0]!.result];
  expect(off.acceptance).toBe(0);
  expect(adaptive.acceptance).toBeGreaterThan(0.2);
  expect(adaptive.tpotMs.p50).toBeLessThan(off.tpotMs.p50 / 1.2);
});

test("a thousand pairs are simulated", () => {
  const { points } = simulatePlan(
    checked({ pairs: 1000, rate: 1000, requests: 300, speculation: "off", maxTokens: 8 }),
  );
  expect(points[0]!.result.completed).toBe(300);
}, 60_000);
