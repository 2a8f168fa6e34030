import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";

/** The benches of what the scheduler promises, in short runs: what they report, not whether goals are met in them. */

const MAIN = new URL("../dist/cli/main.js", import.meta.url).pathname;
const directory = mkdtempSync(join(tmpdir(), "streamserve-test-"));
afterAll(() => rmSync(directory, { recursive: true }));

/** Exit code 1 says that a goal was missed; anything else is a failure. */
function bench(...args: string[]): Promise<{ stdout: string; results: Record<string, unknown> }> {
  const file = join(directory, `${args[0]}.json`);
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [MAIN, "bench", ...args, "--json", file], (error, stdout, stderr) => {
      if (error && error.code !== 1) reject(new Error(stderr));
      else resolve({ stdout, results: JSON.parse(readFileSync(file, "utf8")).results });
    });
  });
}

test("stability: prompts are done while streams decode, and both runs are timed", async () => {
  const { stdout, results } = await bench(
    "stability",
    ...["--streams", "2", "--tokens", "128", "--prompt-tokens", "128", "--rounds", "1"],
  );
  expect(stdout).toMatch(/2 streams decode, prompts of 128 tokens arrive/);
  expect(results.prompts).toBeGreaterThan(0);
  for (const { without, beside } of results.table as { without: number; beside: number }[]) {
    expect(without).toBeGreaterThan(0);
    expect(beside).toBeGreaterThan(0);
  }
});

test("stability: a run in which no prompt was done says so, and fails", async () => {
  const args = ["--streams", "1", "--tokens", "16", "--prompt-tokens", "8000", "--rounds", "1"];
  const { stdout, results } = await bench("stability", ...args);
  expect(results.prompts).toBe(0);
  expect(stdout).toMatch(/No long prompt was done/);
});

test("faults: every answer is compared with the undisturbed one", async () => {
  const args = ["--seconds", "3", "--every", "0.5", "--streams", "4", "--tokens", "16"];
  const { results } = await bench("faults", ...args);
  expect(results).toMatchObject({ failed: 0, wrong: 0 });
  expect(Object.keys(results.victims as object).length).toBeGreaterThan(0);
});

test("classes: offline work is served under interactive requests, and two tenants side by side", async () => {
  const { results } = await bench("classes", "--seconds", "2", "--offline", "4");
  expect(results.fill).toBeGreaterThan(0);
  expect(results.stepMs).toBeGreaterThan(0);
  expect((results.ttft as { alone: number }).alone).toBeGreaterThan(0);
});

test("overload: the peak is found, and refusals and recovery are timed", async () => {
  const { stdout, results } = await bench("overload", "--seconds", "2", "--calibrate", "1");
  expect(results.peak).toBeGreaterThan(0);
  expect(results.recoveryMs).toBeGreaterThanOrEqual(0);
  expect(stdout).toMatch(/refus/);
});
