import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ServingRuntime, startRuntime } from "../dist/actors/start.js";
import { configSchema } from "../dist/config/schema.js";
import type { GenerationRequest } from "../dist/gateway/generation.js";
import { resolveModel } from "../dist/model/resolve.js";
import { openStream, promptOf, summaryOf } from "./streams.js";

/** What the prefix cache saves, and for whom, through the whole runtime with the real model. */

let runtime: ServingRuntime;

beforeAll(async () => {
  const config = configSchema.parse({ engine: { isolateTenants: true } });
  runtime = await startRuntime(config, await resolveModel("smollm2-135m-instruct"));
});

afterAll(() => runtime.stop());

/** One request to its end. */
const answer = (prompt: Uint32Array, more?: Partial<GenerationRequest>) =>
  summaryOf(runtime.service, prompt, more);

/** `shared` tokens that all prompts of a seed begin with, and `own` of its own. */
const promptWith = (seed: number, shared: number, own: number, at: number) =>
  Uint32Array.from([...promptOf(seed, shared), ...promptOf(seed * 100 + at, own)]);

describe("a shared prefix of 1,000 tokens", () => {
  test("brings the second request's first token in under 15% of the first's time", async () => {
    // The least of a few, each with a prefix of its own: other programs may take the processor for a while.
    const shares: number[] = [];
    for (let seed = 1; seed <= 3; seed++) {
      const first = await answer(promptWith(seed, 1000, 16, 1));
      const second = await answer(promptWith(seed, 1000, 16, 2));
      expect(first.cachedTokens).toBe(0);
      expect(second.cachedTokens).toBeGreaterThanOrEqual(960);
      shares.push(second.timings.firstTokenMs / first.timings.firstTokenMs);
    }
    expect(Math.min(...shares)).toBeLessThan(0.15);
  });

  test("survives the cancel of the request that computed it", async () => {
    const prompt = promptWith(7, 1000, 16, 1);
    const stream = openStream(runtime.service, prompt, {
      maxTokens: 200,
      onTokens: ({ generation }) => generation.cancel(),
    });
    expect(await stream.ended).toBe("cancelled");
    expect((await answer(promptWith(7, 1000, 16, 2))).cachedTokens).toBeGreaterThanOrEqual(960);
  });
});

describe("whom a prefix is shared with", () => {
  test("the same tenant, and nobody else, when tenants are kept apart", async () => {
    const prompt = promptWith(20, 128, 8, 1);
    await answer(prompt, { tenant: "a" });
    expect((await answer(prompt, { tenant: "b" })).cachedTokens).toBe(0);
    expect((await answer(prompt)).cachedTokens).toBe(0);
    expect((await answer(prompt, { tenant: "a" })).cachedTokens).toBe(128);
  });

  test("requests of the same salt", async () => {
    const prompt = promptWith(21, 128, 8, 1);
    await answer(prompt, { cacheSalt: "x" });
    expect((await answer(prompt, { cacheSalt: "y" })).cachedTokens).toBe(0);
    expect((await answer(prompt, { cacheSalt: "x", tenant: "a" })).cachedTokens).toBe(0);
    expect((await answer(prompt, { cacheSalt: "x" })).cachedTokens).toBe(128);
  });

  test("what was found and what was not is counted", async () => {
    const before = runtime.service.snapshot().kv;
    const prompt = promptWith(22, 128, 8, 1);
    await answer(prompt);
    await answer(prompt);
    const after = runtime.service.snapshot().kv;
    expect(after.prefixHits - before.prefixHits).toBe(4);
    expect(after.prefixMisses - before.prefixMisses).toBe(4);
  });
});
