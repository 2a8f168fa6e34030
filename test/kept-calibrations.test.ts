import { mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, expect, test } from "vitest";
import { keptCalibrations } from "../dist/actors/kept-calibrations.js";
import { configSchema } from "../dist/config/schema.js";
import { closeEngine, openEngine } from "../dist/engine/native-engine.js";
import { ModelDirectory, tinyModel } from "./tiny-model.js";

/** Step times measured at one start serve the next ones, for the same model, machine and limits. */

const models = new ModelDirectory();
const scratch = mkdtempSync(join(tmpdir(), "streamserve-kept-"));
const path = models.write(tinyModel());
const engine = openEngine({ path, kvTokens: 64, threads: 1 });
afterAll(() => {
  closeEngine(engine.id);
  models.dispose();
  rmSync(scratch, { recursive: true, force: true });
});

let directory: string;
let next = 0;
let measured = 0;
beforeEach(() => {
  directory = join(scratch, String(next++));
  measured = 0;
});

const points = [
  { tokens: 1, ms: 0.5 },
  { tokens: 8, ms: 1.5 },
];

function calibrations(
  settings: Record<string, unknown> = {},
  decode: Record<string, unknown> = {},
  from = path,
) {
  const config = configSchema.parse({ engine: { packedCacheDirectory: directory, ...settings }, decode });
  return keptCalibrations(config, engine, from, () => {
    measured++;
    return { decode: { points }, prefill: { points } };
  });
}

test("measured once", () => {
  const first = calibrations();
  expect(first).toEqual({ decode: { points }, prefill: { points } });
  expect(calibrations()).toEqual(first);
  expect(measured).toBe(1);
});

test("other limits and other models are measured for themselves", () => {
  calibrations();
  calibrations({}, { maxRows: 3 });
  calibrations({}, {}, models.write(tinyModel({ seed: 2 })));
  expect(measured).toBe(3);
});

test("a model file that is written anew is measured anew", () => {
  const other = models.write(tinyModel({ seed: 3 }));
  calibrations({}, {}, other);
  utimesSync(other, 1000, 1000);
  calibrations({}, {}, other);
  expect(measured).toBe(2);
});

test("without a cache every start measures, and nothing is written", () => {
  calibrations({ packedCacheBytes: 0 });
  calibrations({ packedCacheBytes: 0 });
  expect(measured).toBe(2);
  expect(() => readdirSync(directory)).toThrow();
});

test.each([
  ["no JSON", "{"],
  ["another shape", "[]"],
  ["one point", JSON.stringify({ prefill: { points }, decode: { points: points.slice(1) } })],
  [
    "a time below zero",
    JSON.stringify({ prefill: { points }, decode: { points: [points[0], { tokens: 2, ms: -1 }] } }),
  ],
  [
    "another time below zero",
    JSON.stringify({ prefill: { points }, decode: { points, more: { contextMs: 1, rowMs: -1 } } }),
  ],
  ["points out of order", JSON.stringify({ prefill: { points }, decode: { points: [...points].reverse() } })],
])("a kept file with %s is measured anew and replaced", (_, content) => {
  calibrations();
  writeFileSync(join(directory, readdirSync(directory)[0]!), content);
  expect(calibrations()).toEqual({ decode: { points }, prefill: { points } });
  expect(measured).toBe(2);
  calibrations();
  expect(measured).toBe(2);
});

test("a directory that can't be written only means measuring", () => {
  writeFileSync(directory, "a file");
  expect(calibrations()).toEqual({ decode: { points }, prefill: { points } });
  expect(calibrations()).toEqual({ decode: { points }, prefill: { points } });
  expect(measured).toBe(2);
});
