import { afterAll, expect, test } from "vitest";
import { closeEngine, NativeLane, openEngine } from "../dist/engine/native-engine.js";
import { generate, sampling } from "./generate.js";
import { ModelDirectory, TINY, tinyModel } from "./tiny-model.js";

/** Steps of thousands of tokens, and contexts of tens of thousands, give what small steps give. */

const directory = new ModelDirectory();
afterAll(() => directory.dispose());

const how = sampling({ logprobs: 5 });

test.each([
  { tokens: 8192, steps: [8192, 500], window: 0 },
  { tokens: 8192, steps: [8192, 500], window: 1000 },
  { tokens: 32_768, steps: [8192, 1000], window: 0 },
])("a prompt of $tokens tokens in steps of $steps, window of $window", ({ tokens, steps, window }) => {
  const prompt = Uint32Array.from({ length: tokens }, (_, i) => (i * 37 + (i >> 5)) % TINY.vocabulary);
  const metadata = {
    "llama.context_length": { type: "u32", value: 2 * tokens },
    "llama.attention.sliding_window": { type: "u32", value: window },
  } as const;
  const path = directory.write(tinyModel({ metadata, seed: 3 }));
  const results = steps.map((maxBatchTokens) => {
    const engine = openEngine({ path, kvTokens: tokens + 64 });
    const lane = new NativeLane({ engine, lane: 0, role: "prefill", maxRows: 1, maxBatchTokens });
    const generated = generate(lane, prompt, 8, how);
    lane.close();
    closeEngine(engine.id);
    return generated;
  });
  expect(results[1]).toEqual(results[0]);
  expect(results[0]!.logprobs.every((x) => x <= 0)).toBe(true);
});
