import { describe, expect, it } from "vitest";
import { PLANTED_BUGS } from "../dist/simulate/planted/index.js";
import { runPlan } from "../dist/simulate/run.js";
import type { RunResult } from "../dist/simulate/run-result.js";

describe("a bug planted in the system is caught:", () => {
  for (const bug of PLANTED_BUGS) {
    it(`${bug.name}: ${bug.about}`, () => {
      // A bug that counts steps or messages needs the right ones to come together; other delays may bring them.
      let failure: RunResult["failure"];
      for (let seed = 1; seed <= 4 && !failure; seed++) {
        const plan = { ...bug.plan, seed };
        expect(runPlan(plan).failure).toBeUndefined();
        failure = runPlan(plan, bug.tampering()).failure;
      }
      expect(bug.caughtBy).toContain(failure?.invariant);
      expect(failure?.sentence).not.toBe("");
      expect(failure?.tail.length).toBeGreaterThan(0);
    });
  }
});
