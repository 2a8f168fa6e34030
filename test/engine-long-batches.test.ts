import { afterAll, expect, test } from "vitest";
import { closeEngine, NativeLane, openEngine } from "../dist/engine/native-engine.js";
import { generate, sampling } from "./generate.js";
import { ModelDirectory, TINY, tinyModel } from "./tiny-model.js";

/** Steps of thousands of tokens give what small ones give. */

const directory = new ModelDirectory();
afterAll(() => directory.dispose());

const TOKENS = 8192;
const prompt = Uint32Array.from({ length: TOKENS }, (_, i) => (i * 37 + (i >> 5)) % TINY.vocabulary);
const how = sampling({ logprobs: 5 });

test.each([0, 1000])("a prompt of 8,192 tokens in one step, window of %i", (window) => {
  const metadata = {
    "llama.context_length": { type: "u32", value: 2 * TOKENS },
    "llama.attention.sliding_window": { type: "u32", value: window },
  } as const;
  const path = directory.write(tinyModel({ metadata, seed: 3 }));
  const results = [TOKENS, 500].map((maxBatchTokens) => {
    const engine = openEngine({ path, kvTokens: TOKENS + 64 });
    const lane = new NativeLane({ engine, lane: 0, role: "prefill", maxRows: 1, maxBatchTokens });
    const generated = generate(lane, prompt, 8, how);
    lane.close();
    closeEngine(engine.id);
    return generated;
  });
  expect(results[1]).toEqual(results[0]);
  expect(results[0]!.logprobs.every((x) => x <= 0)).toBe(true);
});
