import { expect, test } from "vitest";
import { startRuntime } from "../dist/actors/start.js";
import { configSchema } from "../dist/config/schema.js";
import { GREEDY } from "../dist/engine/engine.js";
import type { GenerationService, GenerationSummary } from "../dist/gateway/generation.js";
import { resolveModel } from "../dist/model/resolve.js";

/** What a lane believes of steps it has never made must not keep it from ever making them. */

/** Tokens over and over: the answer repeats itself, and drafts of it hold. */
const PROMPT = Uint32Array.from({ length: 60 }, (_, i) => 1000 + (i % 6));

function answer(service: GenerationService): Promise<GenerationSummary> {
  return new Promise((resolve, reject) => {
    service.generate(
      {
        prompt: PROMPT,
        maxTokens: 300,
        sampling: { ...GREEDY, minTokens: 300 },
        class: "interactive",
        deadlineMs: 0,
        credit: Number.POSITIVE_INFINITY,
      },
      { tokens: () => {}, done: resolve, failed: reject },
    );
  });
}

test("drafts are tried, and then made, though times from a bad moment say that each costs ten steps", async () => {
  const model = await resolveModel("smollm2-135m-instruct");
  const config = configSchema.parse({ stepCost: { calibrateMs: 0, fixedMs: 3, tokenMs: 30 } });
  const runtime = await startRuntime(config, model);
  try {
    await answer(runtime.service);
    const { outputTokens, acceptedTokens } = await answer(runtime.service);
    expect(outputTokens).toBe(300);
    expect(acceptedTokens).toBeGreaterThan(100);
  } finally {
    await runtime.stop();
  }
});
