import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, expect, test } from "vitest";

const MAIN = new URL("../dist/cli/main.js", import.meta.url).pathname;
const directory = mkdtempSync(join(tmpdir(), "streamserve-test-"));
afterAll(() => rmSync(directory, { recursive: true }));

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
  // The model answers as recorded: both have given the same number of tokens.
  for (const { rows } of tables) expect(rows[6][1]).toBe(rows[6][2]);
  expect(notes.join(" ")).not.toMatch(/a request ended with/);
});
