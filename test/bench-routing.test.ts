import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, expect, test } from "vitest";
import { judge, type Measured } from "../dist/bench/routing/goal.js";
import { summarize } from "../dist/report/statistics.js";

const MAIN = new URL("../dist/cli/main.js", import.meta.url).pathname;
const directory = mkdtempSync(join(tmpdir(), "streamserve-test-"));
afterAll(() => rmSync(directory, { recursive: true }));

/** A router whose first tokens, and tokens after them, all take so long: one pair of times a seed. */
function router(name: string, ...times: [number, number][]): Measured {
  return {
    name,
    runs: times.map(([first, each]) => ({
      firstTokenMs: summarize([first]),
      tokenMs: summarize([each]),
      cachedShare: 0,
    })),
  };
}

test("the goal is judged by the median over seeds, beside the substitute that does best", () => {
  const ours = router("FlowGuard", [100, 10], [100, 10], [100, 10]);
  const even = router("round robin", [160, 10], [170, 10], [120, 10]);
  // Ahead on one seed by chance.
  const lucky = router("least loaded", [90, 10], [110, 9.5], [110, 9.5]);
  const [first, each] = judge(ours, [even, lucky], true);
  expect(first).toMatchObject({ tail: "TTFT", best: "least loaded", holds: true });
  expect(first!.overBest.median).toBeCloseTo(100 / 110);
  expect(first!.ahead.median).toBeCloseTo(1.6);
  expect(each).toMatchObject({ tail: "TPOT", best: "least loaded", holds: false });
});

test("where load is skewed first tokens must come 1.5 times sooner than in turn", () => {
  const ours = router("FlowGuard", [100, 10]);
  const even = router("round robin", [140, 10]);
  expect(judge(ours, [even], true).map(({ holds }) => holds)).toEqual([false, true]);
  expect(judge(ours, [even], false).map(({ holds }) => holds)).toEqual([true, true]);
});

test("every scenario is judged over the seeds asked for", async () => {
  const file = join(directory, "report.json");
  const size = ["--pairs", "2", "--requests", "50", "--decisions", "200", "--scenario", "long tail"];
  const args = ["bench", "routing", ...size, "--seeds", "11..12", "--threads", "1", "--json", file];
  await promisify(execFile)(process.execPath, [MAIN, ...args]);
  const { results, tables } = JSON.parse(readFileSync(file, "utf8"));
  const [{ measured, verdicts }] = results.compared;
  for (const { runs } of measured) expect(runs).toHaveLength(2);
  expect(verdicts.map(({ tail }: { tail: string }) => tail)).toEqual(["TTFT", "TPOT"]);
  expect(tables[1].rows.map((row: unknown[]) => row.at(-1))).toEqual(
    verdicts.map(({ holds }: { holds: boolean }) => (holds ? "holds" : "missed")),
  );
});

test("a range of seeds that is none is refused", async () => {
  const args = ["bench", "routing", "--seeds", "9..3"];
  await expect(promisify(execFile)(process.execPath, [MAIN, ...args])).rejects.toThrow(
    /a range like 11\.\.16/,
  );
});
