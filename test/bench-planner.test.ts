import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import fc from "fast-check";
import { afterAll, expect, test } from "vitest";
import { slowed } from "../dist/bench/planner/machine-speed.js";
import { stepMs } from "../dist/engine/simulated-cost.js";
import { stepCostOf } from "../dist/simulate/serving/hardware.js";
import { loadHardware } from "../dist/simulate/serving/load-hardware.js";

const MAIN = new URL("../dist/cli/main.js", import.meta.url).pathname;
const directory = mkdtempSync(join(tmpdir(), "streamserve-test-"));
afterAll(() => rmSync(directory, { recursive: true }));

test("a machine so many times slower takes as many times as long for every step", () => {
  const { actors: _, ...hardware } = loadHardware("cpu-2-cores");
  const shape = fc.tuple(
    fc.constantFrom("prefill" as const, "decode" as const),
    fc.integer({ min: 1, max: 64 }),
    fc.integer({ min: 1, max: 600 }),
    fc.nat({ max: 100_000 }),
    fc.nat({ max: 10_000 }),
  );
  fc.assert(
    fc.property(shape, fc.double({ min: 0.5, max: 3, noNaN: true }), ([role, ...counts], times) => {
      const [plain, slow] = [hardware, slowed(hardware, times)].map((one) =>
        stepMs(stepCostOf(one, role), ...counts),
      );
      expect(slow! / plain!).toBeCloseTo(times, 6);
    }),
  );
});

test("the planner's prediction stands beside what the real engine did with the same requests", async () => {
  const file = join(directory, "report.json");
  const args = ["--hardware", "cpu-2-cores", "--rates", "2,4", "--seconds", "2", "--max-tokens", "8"];
  await promisify(execFile)(process.execPath, [MAIN, "bench", "planner", ...args, "--json", file]);
  const { results, tables, notes } = JSON.parse(readFileSync(file, "utf8"));
  expect(results.compared.map(({ rate }: { rate: number }) => rate)).toEqual([2, 4]);
  for (const { errors } of results.compared) {
    expect(errors).toHaveLength(6);
    for (const { predicted, measured } of errors) {
      expect(predicted).toBeGreaterThan(0);
      expect(measured).toBeGreaterThan(0);
    }
  }
  // Both have given the same number of tokens.
  for (const { rows } of tables) expect(rows[6][1]).toBe(rows[6][2]);
  expect(notes.join(" ")).not.toMatch(/a request ended with/);
});
