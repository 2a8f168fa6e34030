import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Sampling, StepRow } from "../dist/engine/engine.js";
import { closeEngine, type EngineInfo, NativeLane, openEngine } from "../dist/engine/native-engine.js";
import {
  append,
  compute,
  type Generated,
  generate,
  nothing,
  prefill,
  sampling,
  shippedModel,
} from "./generate.js";

/** What else is in the batch, how a prompt was cut, which lane ran it and what was guessed never shows. */

interface GreedyCase {
  readonly prompt_ids: readonly number[];
  readonly output_ids: readonly number[];
}

const cases: GreedyCase[] = JSON.parse(
  readFileSync(new URL("fixtures/oracle/greedy.json", import.meta.url), "utf8"),
);
const prompt = (i: number): Uint32Array => Uint32Array.from(cases[i]!.prompt_ids);
const COUNT = 24;
const greedy = sampling({ logprobs: 3 });
const drawn: Sampling = sampling({
  temperature: 0.9,
  topK: 50,
  topP: 0.95,
  repetitionPenalty: 1.1,
  frequencyPenalty: 0.2,
  seed: 4711,
  logprobs: 3,
});

let engine: EngineInfo;
let lane: NativeLane;
let other: NativeLane;

beforeAll(async () => {
  engine = openEngine({ path: await shippedModel(), kvTokens: 16_384 });
  lane = new NativeLane({ engine, lane: 0, role: "prefill", maxRows: 32, maxBatchTokens: 512 });
  other = new NativeLane({ engine, lane: 1, role: "decode", maxRows: 32, maxBatchTokens: 512 });
});

afterAll(() => {
  lane.close();
  other.close();
  expect(lane.kv().usedBlocks).toBe(0);
  closeEngine(engine.id);
});

/** Computes the prompts of all cases as one batch and draws in step, so that each is among 31 others. */
function generateTogether(how: Sampling): Generated[] {
  const all = cases.slice(0, 32).map((_, i) => {
    const created = lane.createSequence(
      prompt(i),
      prompt(i).length,
      i === 0 ? how : sampling({ seed: i, temperature: 1 }),
    );
    compute(lane, created.handle, prompt(i).subarray(created.cachedTokens, -1), 256);
    return { ...created, out: nothing(), pending: prompt(i).at(-1)! };
  });
  for (let step = 0; step < COUNT; step++) {
    const rows: StepRow[] = all.map(({ handle, pending }) => ({
      sequence: handle,
      tokens: [pending],
      drafts: 0,
      sample: true,
    }));
    const result = lane.submit(rows).collect();
    for (const [i, row] of result.rows.entries()) {
      append(all[i]!.out, row);
      all[i]!.pending = row.tokens[0]!;
    }
  }
  for (const { handle } of all) lane.release(handle);
  return all.map(({ out }) => out);
}

/** Verifies drafts of which some are right, some wrong, at every depth from 1 to 8. */
function generateSpeculating(truth: readonly number[], how: Sampling): { out: Generated; accepted: number } {
  const { handle, cachedTokens } = lane.createSequence(prompt(0), prompt(0).length, how);
  const out = nothing();
  append(out, prefill(lane, handle, prompt(0), cachedTokens));
  let accepted = 0;
  for (let depth = 1; out.tokens.length < COUNT; depth = (depth % 8) + 1) {
    const drafts = truth.slice(out.tokens.length, out.tokens.length + depth);
    if (depth % 3 === 0 && drafts.length > 1) drafts[drafts.length >> 1] = 7;
    const tokens = [out.tokens.at(-1)!, ...drafts];
    const before = lane.length(handle);
    const row = lane.submit([{ sequence: handle, tokens, drafts: drafts.length, sample: true }]).collect()
      .rows[0]!;
    expect(row.tokens.length).toBe(row.accepted + 1);
    expect(lane.length(handle)).toBe(before + 1 + row.accepted);
    accepted += row.accepted;
    append(out, row);
  }
  lane.release(handle);
  return {
    out: { ...out, tokens: out.tokens.slice(0, COUNT), logprobs: out.logprobs.slice(0, COUNT) },
    accepted,
  };
}

describe.each([
  ["greedy", greedy],
  ["drawn with a seed", drawn],
])("one request, %s", (_, how) => {
  let alone: Generated;

  beforeAll(() => {
    alone = generate(lane, prompt(0), COUNT, how);
    expect(alone.tokens).toHaveLength(COUNT);
    expect(alone.logprobs.every((x) => x <= 0)).toBe(true);
  });

  test("again", () => {
    expect(generate(lane, prompt(0), COUNT, how)).toEqual(alone);
  });

  test("among 31 others", () => {
    expect(generateTogether(how)[0]).toEqual(alone);
  });

  test("with the prompt in chunks of 17", async () => {
    // An engine of its own: cached prefix blocks would let it skip the very work that is compared.
    const fresh = openEngine({ path: await shippedModel(), kvTokens: 512 });
    const chunked = new NativeLane({
      engine: fresh,
      lane: 0,
      role: "prefill",
      maxRows: 1,
      maxBatchTokens: 17,
    });
    expect(generate(chunked, prompt(0), COUNT, how)).toEqual(alone);
    chunked.close();
    closeEngine(fresh.id);
  });

  test("handed over after prefill", () => {
    const { handle, cachedTokens } = lane.createSequence(prompt(0), prompt(0).length, how);
    const out = nothing();
    append(out, prefill(lane, handle, prompt(0), cachedTokens));
    const before = lane.kv();
    lane.handOver(handle, 1);
    other.adopt(handle);
    expect(other.kv()).toEqual(before);
    while (out.tokens.length < COUNT) {
      const tokens = [out.tokens.at(-1)!];
      append(out, other.submit([{ sequence: handle, tokens, drafts: 0, sample: true }]).collect().rows[0]!);
    }
    other.release(handle);
    expect(out).toEqual(alone);
  });

  test("with drafts", () => {
    const { out, accepted } = generateSpeculating(alone.tokens, how);
    expect(accepted).toBeGreaterThan(COUNT / 3);
    expect(out.tokens).toEqual(alone.tokens);
    expect(out.logprobs).toEqual(alone.logprobs);
  });

  test("resumed from the tokens already delivered", () => {
    const delivered = alone.tokens.slice(0, 9);
    const resumed = Uint32Array.from([...prompt(0), ...delivered]);
    const { handle, cachedTokens } = lane.createSequence(resumed, prompt(0).length, how);
    const out = nothing();
    append(out, prefill(lane, handle, resumed, cachedTokens));
    while (out.tokens.length < COUNT - delivered.length) {
      const tokens = [out.tokens.at(-1)!];
      append(out, lane.submit([{ sequence: handle, tokens, drafts: 0, sample: true }]).collect().rows[0]!);
    }
    lane.release(handle);
    expect(out.tokens).toEqual(alone.tokens.slice(9));
    expect(out.logprobs).toEqual(alone.logprobs.slice(9));
  });

  test("on any number of threads and every kernel family that this processor runs", async () => {
    const families = ["portable", "avx2", "avx2-vnni", "avx512-vnni", "neon-dotprod", "neon-i8mm"];
    let compared = 0;
    for (const instructionSet of families) {
      let info: EngineInfo;
      try {
        info = openEngine({
          path: await shippedModel(),
          kvTokens: 512,
          threads: compared + 1,
          instructionSet,
        });
      } catch (error) {
        expect(error).toMatchObject({ code: "native_argument_invalid" });
        continue;
      }
      const here = new NativeLane({ engine: info, lane: 0, role: "decode", maxRows: 1, maxBatchTokens: 64 });
      const few = instructionSet === "portable" ? 3 : COUNT;
      expect(generate(here, prompt(0), few, how).tokens).toEqual(alone.tokens.slice(0, few));
      here.close();
      closeEngine(info.id);
      compared++;
    }
    expect(compared).toBeGreaterThan(0);
  });
});
