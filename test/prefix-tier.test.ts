import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { GREEDY } from "../dist/engine/engine.js";
import { closeEngine, NativeLane, openEngine, prefixTierCounts } from "../dist/engine/native-engine.js";
import { prefill } from "./generate.js";
import { HubDirectory, hubTensor, safetensorsFile, TINY_CONFIG } from "./hub-model.js";
import { metric, startTestServer } from "./serving.js";
import { ModelDirectory, TINY, tinyModel, tinyTensors } from "./tiny-model.js";

/** The second tier of the prefix cache: the same tokens with it, over evictions, restarts and damage. */

const KV_TOKENS = 512;
const PROMPT_TOKENS = 257;
const OUTPUT_TOKENS = 16;
let models: ModelDirectory;
let model: string;
let directory: string;

beforeEach(() => {
  models = new ModelDirectory();
  model = models.write(tinyModel());
  directory = mkdtempSync(join(tmpdir(), "streamserve-tier-"));
});
afterEach(() => {
  models.dispose();
  rmSync(directory, { recursive: true });
});

const prompt = (seed: number) =>
  Uint32Array.from({ length: PROMPT_TOKENS }, (_, i) => (seed + i * 7) % TINY.vocabulary);

interface Answer {
  readonly cachedTokens: number;
  readonly tokens: readonly number[];
}

function answer(lane: NativeLane, ids: Uint32Array): Answer {
  const { handle, cachedTokens } = lane.createSequence(ids, ids.length, GREEDY);
  const tokens = [...prefill(lane, handle, ids, cachedTokens).tokens];
  while (tokens.length < OUTPUT_TOKENS) {
    const row = { sequence: handle, tokens: Uint32Array.of(tokens.at(-1)!), drafts: 0, sample: true };
    tokens.push(...lane.submit([row]).collect().rows[0]!.tokens);
  }
  lane.release(handle);
  return { cachedTokens, tokens };
}

function opened(bytes = 64 * 2 ** 20) {
  const engine = openEngine({ path: model, kvTokens: KV_TOKENS, tier: { directory, bytes } });
  const lane = new NativeLane({ engine, lane: 0, role: "decode", maxRows: 1, maxBatchTokens: 512 });
  return {
    engine,
    answer: (seed: number) => answer(lane, prompt(seed)),
    counts: () => prefixTierCounts(engine.id),
    close: () => {
      lane.close();
      closeEngine(engine.id);
    },
  };
}

test("what gave way is read back, and the answer is the same", async () => {
  const house = opened();
  const first = house.answer(1);
  for (const seed of [2, 3, 4]) house.answer(seed);
  // The first prompt's blocks gave way before any other's.
  await expect.poll(() => house.counts().written, { timeout: 30_000 }).toBeGreaterThanOrEqual(8);
  const again = house.answer(1);
  expect(first.cachedTokens).toBe(0);
  expect(again).toEqual({ ...first, cachedTokens: PROMPT_TOKENS - 1 });
  expect(house.counts().read).toBe((PROMPT_TOKENS - 1) / house.engine.blockTokens);
  house.close();
});

test("a new start finds it, and a damaged file is begun anew with a notice", () => {
  const before = opened();
  const first = before.answer(1);
  before.close();
  const after = opened();
  expect(after.answer(1)).toEqual({ ...first, cachedTokens: PROMPT_TOKENS - 1 });
  expect(after.engine.notice).toBe("");
  after.close();
  const [file] = readdirSync(directory);
  writeFileSync(join(directory, file!), "no file of ours");
  const damaged = opened();
  expect(damaged.engine.notice).toMatch(/can't be used \(.+\): it is begun anew/);
  expect(damaged.answer(1)).toEqual(first);
  damaged.close();
});

test("what was computed under other settings of the model is not found", () => {
  const hubs = new HubDirectory();
  try {
    model = hubs.write({
      "config.json": TINY_CONFIG,
      "model.safetensors": safetensorsFile(tinyTensors({ format: "F32" }).map(hubTensor)),
    });
    const before = opened();
    before.answer(1);
    before.close();
    // The weights stay as they are.
    const scaled = { ...TINY_CONFIG, rope_scaling: { type: "linear", factor: 4 } };
    writeFileSync(join(model, "config.json"), JSON.stringify(scaled));
    const after = opened();
    expect(after.answer(1).cachedTokens).toBe(0);
    after.close();
  } finally {
    hubs.dispose();
  }
});

test("without room for a block there is no tier, and it is said", () => {
  const house = opened(1000);
  expect(house.engine.notice).toContain("engine.prefixTierBytes");
  expect(house.counts().slots).toBe(0);
  expect(house.answer(1).cachedTokens).toBe(0);
  house.close();
});

test("a server with a tier tells of it in its metrics, one without does not", async () => {
  const tier = { kvTokens: KV_TOKENS, prefixTierBytes: 64 * 2 ** 20, prefixTierDirectory: directory };
  const servers = [
    await startTestServer({ engine: tier }),
    await startTestServer({ engine: { kvTokens: KV_TOKENS } }),
  ] as const;
  try {
    const [{ url }, plain] = servers;
    expect(await metric(url, "streamserve_prefix_tier_blocks_total")).toBeGreaterThan(0);
    expect(await metric(url, "streamserve_prefix_tier_damaged_total")).toBe(0);
    const text = await (await fetch(`${plain.url}/metrics`)).text();
    expect(text).not.toContain("prefix_tier");
  } finally {
    await Promise.all(servers.map((server) => server.close(0)));
  }
});
