import { expect, test } from "vitest";
import { startRuntime } from "../dist/actors/start.js";
import { configSchema } from "../dist/config/schema.js";
import { resolveModel } from "../dist/model/resolve.js";
import { summaryOf } from "./streams.js";

/** What a lane believes of steps it has never made must not keep it from ever making them. */

/** Tokens over and over: the answer repeats itself, and drafts of it hold. */
const PROMPT = Uint32Array.from({ length: 60 }, (_, i) => 1000 + (i % 6));

test("drafts are tried, and then made, though times from a bad moment say that each costs ten steps", async () => {
  const model = await resolveModel("smollm2-135m-instruct");
  const config = configSchema.parse({ stepCost: { calibrateMs: 0, fixedMs: 3, tokenMs: 30 } });
  const runtime = await startRuntime(config, model);
  try {
    await summaryOf(runtime.service, PROMPT, { maxTokens: 300 });
    const { outputTokens, acceptedTokens } = await summaryOf(runtime.service, PROMPT, { maxTokens: 300 });
    expect(outputTokens).toBe(300);
    expect(acceptedTokens).toBeGreaterThan(100);
  } finally {
    await runtime.stop();
  }
});
