import { execFile } from "node:child_process";
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, expect, test } from "vitest";
import { outcomeOf, type Served } from "../dist/bench/ablation/outcome.js";

const MAIN = new URL("../dist/cli/main.js", import.meta.url).pathname;
const directory = mkdtempSync(join(tmpdir(), "streamserve-test-"));
afterAll(() => rmSync(directory, { recursive: true }));

async function ablation(...args: string[]) {
  const file = join(directory, "report.json");
  const all = [MAIN, "bench", "ablation", "--rounds", "1", ...args, "--json", file];
  const { stdout } = await promisify(execFile)(process.execPath, all);
  return { stdout, report: JSON.parse(readFileSync(file, "utf8")) };
}

test("a run's figures: percentiles over what was answered, rates over the whole time", () => {
  const one = (cameMs: number, firstTokenMs: number, tokenMs: number, done = true): Served => ({
    cameMs,
    endedMs: cameMs + 1000,
    firstTokenMs,
    tokenMs,
    outputTokens: done ? 10 : 0,
    done,
  });
  const served = [
    one(0, 50, 10),
    one(500, 150, 10),
    one(800, 50, 40),
    // One token: it has no time between tokens.
    one(900, 60, Number.NaN),
    one(1000, Number.NaN, Number.NaN, false),
  ];
  const outcome = outcomeOf(served, { ttftMs: 100, tpotMs: 20 });
  expect(outcome).toMatchObject({ throughput: 20, goodput: 1, ttftP50: 55, tpotP50: 10 });
});

test("the simulator compares a scheduler with FIFO in one table, with plots", async () => {
  const { stdout, report } = await ablation(
    ...["--where", "simulated", "--part", "scheduler", "--requests", "200"],
    ...["--plots", join(directory, "plot")],
  );
  expect(stdout).toMatch(/Ablation, simulated A800 pairs/);
  const rows = report.results[0].compared;
  expect(rows.map(({ name }: { name: string }) => name)).toEqual(["whole system", "FIFO, all admitted"]);
  expect(rows[0].ratios.throughput).toMatchObject({ median: 1, min: 1, max: 1 });
  // Everyone admitted at twice what can be served: all wait long.
  expect(rows[1].ratios.ttftP99.median).toBeGreaterThan(1.5);
  const plots = readdirSync(directory).filter((name) => name.endsWith(".svg"));
  expect(plots).toEqual(["plot-1.svg"]);
});

test("reports of single parts are joined in the order of the parts", async () => {
  const files = ["lanes", "router"].map((part) => ({ part, file: join(directory, `part-${part}.json`) }));
  for (const { part, file } of files) {
    await ablation("--where", "simulated", "--part", part, "--requests", "60");
    copyFileSync(join(directory, "report.json"), file);
  }
  const { stdout, report } = await ablation("--join", ...files.map(({ file }) => file));
  const rows: { part: string; name: string }[] = report.results[0].compared;
  expect([...new Set(rows.map(({ part }) => part))]).toEqual(["router", "lanes"]);
  expect(report.figures).toHaveLength(2);
  expect(stdout).toMatch(/lanes \(simulated A800 pairs\): measured at/);
  await expect(ablation("--join", join(directory, "plot-1.svg"))).rejects.toThrow(/can't be joined/);
});

test("a run that goes on with later rounds is joined with the first, as if they had been one", async () => {
  const run = async (name: string, ...args: string[]) => {
    const file = join(directory, `${name}.json`);
    const { report } = await ablation("--where", "simulated", "--part", "lanes", "--requests", "60", ...args);
    copyFileSync(join(directory, "report.json"), file);
    return { file, compared: report.results[0].compared };
  };
  const first = await run("first");
  const second = await run("second", "--first-round", "1");
  const both = await run("both", "--rounds", "2");
  expect(second.compared[0].rounds).not.toEqual(first.compared[0].rounds);
  const { report } = await ablation("--join", first.file, second.file);
  expect(report.results[0].compared).toEqual(both.compared);
});

test("the real engine compares lanes", async () => {
  const { report } = await ablation("--where", "real", "--part", "lanes", "--real-requests", "16");
  const rows = report.results[0].compared;
  expect(rows.map(({ name }: { name: string }) => name)).toEqual(["whole system", "fused", "static roles"]);
  for (const { rounds } of rows) expect(rounds[0].throughput).toBeGreaterThan(0);
});
