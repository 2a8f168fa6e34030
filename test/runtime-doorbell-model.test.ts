import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { type Bug, check } from "./models/ring-doorbell.js";

/**
 * The protocol of ring and doorbells, explored exhaustively: by a search written here, which always runs, and
 * by spin where it is installed.
 */

const BUGS: readonly Bug[] = ["look first", "flag first", "no force", "ask first"];

describe("ring and doorbells, every interleaving and one death at every step", () => {
  it("lose no wake-up and no order: from every state both sides can finish", () => {
    for (const [messages, capacity] of [
      [3, 1],
      [4, 2],
      [4, 3],
    ] as const) {
      const result = check({ messages, capacity, deaths: 1 });
      expect(result.stuck).toBeUndefined();
      expect(result.states).toBeGreaterThan(1000);
    }
  });

  it.each(BUGS)("would be caught: %s", (bug) => {
    expect(check({ messages: 3, capacity: 1, deaths: 1, bug }).stuck).toBeDefined();
  });
});

describe("the Promela model", () => {
  const model = new URL("./models/ring-doorbell.pml", import.meta.url).pathname;
  const missing = ["spin", "gcc"].filter((tool) => spawnSync(tool, ["--version"]).error !== undefined);

  const errors = (...defines: string[]): number => {
    const folder = mkdtempSync(join(tmpdir(), "spin-"));
    try {
      const args = [...defines, "-search", "-safety", model];
      const { stdout } = spawnSync("spin", args, { cwd: folder, encoding: "utf8", timeout: 50_000 });
      return Number(/errors: (\d+)/.exec(stdout)?.[1]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  };

  if (missing.length > 0) {
    it.skip(`was not run: ${missing.join(" and ")} not found (apt-get install spin gcc)`, () => {});
  } else {
    it("has no reachable state in which somebody sleeps for ever", () => {
      expect(errors()).toBe(0);
    });

    it.each(["-DLOOK_FIRST", "-DFLAG_FIRST", "-DASK_FIRST", "-DNO_FORCE"])("has one with %s", (bug) => {
      expect(errors(bug)).toBeGreaterThan(0);
    });
  }
});
