import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { bendEngine } from "../dist/simulate/planted/tamper.js";
import { planOf } from "../dist/simulate/random-plan.js";
import { runPlan } from "../dist/simulate/run.js";
import { describeFailure, type RunResult } from "../dist/simulate/run-result.js";

const SEEDS = Array.from({ length: 40 }, (_, i) => i + 1);

function simulate(...args: string[]) {
  const main = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));
  return spawnSync(process.execPath, [main, "simulate", ...args], { encoding: "utf8" });
}

describe("a run from a seed", () => {
  it("keeps every invariant", { timeout: 120_000 }, () => {
    const results = SEEDS.map((seed) => runPlan(planOf(seed)));
    for (const result of results) expect(result.failure && describeFailure(result)).toBeUndefined();
    const outcomes = new Set(results.flatMap((result) => result.requests.map(({ outcome }) => outcome)));
    const faults = new Set(results.flatMap((result) => Object.keys(result.faults)));
    // The seeds are of use only if they try much: all kinds of ends and of faults.
    expect([...outcomes]).toEqual(
      expect.arrayContaining(["done", "cancelled", "overloaded", "deadline_exceeded"]),
    );
    expect([...faults].sort()).toEqual(["full", "kill", "pause", "slow", "step-fails"]);
  });

  it("keeps them with two hundred requests and a fault of every kind", { timeout: 120_000 }, () => {
    // Resumed requests that a full queue refused, and newcomers that it forgot beside them, were found by these.
    for (const seed of [303, 731, 1625]) {
      const result = runPlan(planOf(seed, 200));
      expect(result.failure && describeFailure(result)).toBeUndefined();
      expect(result.requests).toHaveLength(200);
      expect(Object.keys(result.faults)).toHaveLength(5);
    }
  });

  it("replays exactly, and takes another course with another seed", () => {
    const hashes = SEEDS.slice(0, 12).map((seed) => {
      const [first, again] = [runPlan(planOf(seed)), runPlan(planOf(seed))] as [RunResult, RunResult];
      expect(again).toEqual(first);
      return first.hash;
    });
    expect(new Set(hashes).size).toBe(hashes.length);
  });

  it("shows by its hash when something does not come from the seed", () => {
    let step = 0;
    const tampering = {
      engine: (_: string, engine: Parameters<typeof bendEngine>[0]) =>
        bendEngine(engine, {
          submit: (rows) => {
            const job = engine.submit(rows);
            return { ...job, virtualMs: (job.virtualMs ?? 0) + step++ / 1000, collect: () => job.collect() };
          },
        }),
    };
    const [first, again] = [runPlan(planOf(3), tampering), runPlan(planOf(3), tampering)];
    expect(first.failure ?? again.failure).toBeUndefined();
    expect(again.hash).not.toBe(first.hash);
  });
});

describe("the command", () => {
  it("plays a range of seeds over threads and sums up", () => {
    const { status, stdout } = simulate("--seeds", "1..24", "--threads", "2");
    expect(status).toBe(0);
    expect(stdout).toMatch(/^runs +24, 0 of them with a violation$/m);
    expect(stdout).toMatch(/^requests +\d+ done/m);
  });

  it("prints the trace hash of a seed, the same each time", () => {
    const [first, again] = [simulate("--seed", "5"), simulate("--seed", "5")];
    expect(first.status).toBe(0);
    expect(first.stdout).toMatch(/trace hash [0-9a-f]{16}/);
    expect(again.stdout).toBe(first.stdout);
  });

  it("reports a violation with event, cause and the events before it, and fails", () => {
    const { status, stdout } = simulate("--plant", "token-repeated");
    expect(status).toBe(1);
    expect(stdout).toMatch(/event \d+ at [\d.]+ ms:\nviolated "stream": request \d+ got/);
    expect(stdout).toMatch(/^ +\d+ +[\d.]+ ms {2}gateway +tokens \d+\.\d+\[/m);
  });

  it("refuses what it does not understand", () => {
    for (const args of [
      ["--seed", "x"],
      ["--seeds", "9..1"],
      ["--scenario", "none"],
      ["--plant", "none"],
      ["--nonsense"],
    ]) {
      expect(simulate(...args).status).toBe(2);
    }
    expect(simulate("--help").stdout).toContain("--scenario NAME");
    expect(simulate("--list").stdout).toContain("abort-storm");
  });
});
