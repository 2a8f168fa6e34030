import { describe, expect, it } from "vitest";
import { playScenario } from "../dist/simulate/play.js";
import { SCENARIOS } from "../dist/simulate/scenarios/index.js";

describe("under the virtual clock", () => {
  for (const scenario of SCENARIOS) {
    it(`${scenario.name}: ${scenario.about}`, { timeout: 120_000 }, () => {
      const { results, wrong } = playScenario(scenario);
      expect(wrong).toBeUndefined();
      expect(results.length).toBe(scenario.plans().length);
    });
  }
});
