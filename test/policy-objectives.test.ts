import { describe, expect, test } from "vitest";
import { checkPromises } from "../dist/actors/promises.js";
import { configSchema } from "../dist/config/schema.js";
import { impossibleObjective } from "../dist/policy/objectives.js";

const STEPS = {
  prefill: [
    { tokens: 1, ms: 8 },
    { tokens: 64, ms: 90 },
  ],
  decode: [
    { tokens: 1, ms: 8 },
    { tokens: 2, ms: 9 },
    { tokens: 9, ms: 18 },
  ],
};

describe("an objective", () => {
  test("of nothing is always possible, and so is any while nothing was timed", () => {
    expect(impossibleObjective({ ttftMs: 0, tpotMs: 0 }, STEPS, 8)).toBeUndefined();
    const untimed = { prefill: [], decode: [] };
    expect(impossibleObjective({ ttftMs: 0.1, tpotMs: 0.1 }, untimed, 8)).toBeUndefined();
  });

  test("for the first token is impossible below the shortest prefill", () => {
    expect(impossibleObjective({ ttftMs: 7.9, tpotMs: 0 }, STEPS, 0)).toMatchObject({ key: "ttftMs" });
    expect(impossibleObjective({ ttftMs: 8, tpotMs: 0 }, STEPS, 0)).toBeUndefined();
  });

  test("for output tokens counts what drafts may give", () => {
    expect(impossibleObjective({ ttftMs: 0, tpotMs: 7.9 }, STEPS, 0)).toMatchObject({ key: "tpotMs" });
    expect(impossibleObjective({ ttftMs: 0, tpotMs: 2 }, STEPS, 8)).toBeUndefined();
    expect(impossibleObjective({ ttftMs: 0, tpotMs: 1.9 }, STEPS, 8)).toMatchObject({ key: "tpotMs" });
  });
});

test("a configuration with an impossible one is refused with its key and the times", () => {
  const config = configSchema.parse({
    scheduler: { interactive: { ttftMs: 500, tpotMs: 3 } },
    speculation: { maxDepth: 0 },
  });
  expect(() => checkPromises(config, STEPS)).toThrow(
    /^"scheduler\.interactive\.tpotMs" can't be kept: a token takes 8\.0 ms .* 3 ms are allowed\./,
  );
  expect(() => checkPromises(configSchema.parse({}), STEPS)).not.toThrow();
});
