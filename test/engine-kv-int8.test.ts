import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  closeEngine,
  type EngineInfo,
  type EngineOptions,
  NativeLane,
  openEngine,
} from "../dist/engine/native-engine.js";
import { append, type Generated, generate, nothing, prefill, sampling, shippedModel } from "./generate.js";

/** KV kept as int8: half the memory, other logits than f16's by little, and as invariant as f16's. */

const cases: { readonly prompt_ids: readonly number[] }[] = JSON.parse(
  readFileSync(new URL("fixtures/oracle/greedy.json", import.meta.url), "utf8"),
);
const prompt = (i: number): Uint32Array => Uint32Array.from(cases[i]!.prompt_ids);
const COUNT = 24;
const KV_TOKENS = 2048;
const how = sampling({ temperature: 0.9, topK: 50, seed: 4711, logprobs: 3 });

let path: string;
let engine: EngineInfo;
let lane: NativeLane;
let alone: Generated;

beforeAll(async () => {
  path = await shippedModel();
  engine = openEngine({ path, kvTokens: KV_TOKENS, kv: "int8" });
  lane = new NativeLane({ engine, lane: 0, role: "prefill", maxRows: 8, maxBatchTokens: 512 });
  alone = generate(lane, prompt(0), COUNT, how);
});

afterAll(() => {
  lane.close();
  closeEngine(engine.id);
});

/** Runs `work` on a lane of an engine of its own: cached prefixes would spare the work that is compared. */
function elsewhere<R>(
  options: Partial<EngineOptions>,
  maxBatchTokens: number,
  work: (lane: NativeLane) => R,
): R {
  const info = openEngine({ path, kvTokens: KV_TOKENS, kv: "int8", ...options });
  const there = new NativeLane({ engine: info, lane: 0, role: "decode", maxRows: 8, maxBatchTokens });
  try {
    return work(there);
  } finally {
    there.close();
    closeEngine(info.id);
  }
}

test("a value takes a byte, and a token of a head four more", () => {
  const values = KV_TOKENS * engine.layers * engine.kvHeads * 2;
  expect(engine).toMatchObject({ kv: "int8", kvBytes: values * (engine.headDim + 4) });
});

test("it is not what f16 gives, to the bit", () => {
  const f16 = elsewhere({ kv: "f16" }, 512, (there) => generate(there, prompt(0), COUNT, how));
  expect(f16.logprobs).not.toEqual(alone.logprobs);
});

test("chunks do not show", () => {
  expect(elsewhere({}, 17, (there) => generate(there, prompt(0), COUNT, how))).toEqual(alone);
});

test("company does not show", () => {
  const together = elsewhere({}, 512, (there) => {
    const rows = [0, 1, 2, 3, 4].map((i) => {
      const { handle } = there.createSequence(prompt(i), prompt(i).length, how);
      const out = nothing();
      append(out, prefill(there, handle, prompt(i), 0));
      return { handle, out };
    });
    while (rows[0]!.out.tokens.length < COUNT) {
      const result = there
        .submit(
          rows.map(({ handle, out }) => ({
            sequence: handle,
            tokens: [out.tokens.at(-1)!],
            drafts: 0,
            sample: true,
          })),
        )
        .collect();
      for (const [i, row] of result.rows.entries()) append(rows[i]!.out, row);
    }
    return rows[0]!.out;
  });
  expect(together).toEqual(alone);
});

test("verified drafts do not show", () => {
  const { handle, cachedTokens } = lane.createSequence(prompt(0), prompt(0).length, how);
  const out = nothing();
  append(out, prefill(lane, handle, prompt(0), cachedTokens));
  while (out.tokens.length < COUNT) {
    // The last draft is wrong.
    const drafts = [...alone.tokens.slice(out.tokens.length, out.tokens.length + 3), 7];
    const tokens = [out.tokens.at(-1)!, ...drafts];
    append(
      out,
      lane.submit([{ sequence: handle, tokens, drafts: drafts.length, sample: true }]).collect().rows[0]!,
    );
  }
  lane.release(handle);
  expect(out.tokens.slice(0, COUNT)).toEqual(alone.tokens);
  expect(out.logprobs.slice(0, COUNT)).toEqual(alone.logprobs);
});

test("threads and kernel families do not show", () => {
  const families = ["portable", "avx2", "avx2-vnni", "avx512-vnni", "neon-dotprod", "neon-i8mm"];
  let compared = 0;
  for (const instructionSet of families) {
    const few = instructionSet === "portable" ? 3 : COUNT;
    try {
      const { tokens, logprobs } = elsewhere({ instructionSet, threads: compared + 1 }, 64, (there) =>
        generate(there, prompt(0), few, how),
      );
      expect(tokens).toEqual(alone.tokens.slice(0, few));
      expect(logprobs).toEqual(alone.logprobs.slice(0, few));
      compared++;
    } catch (error) {
      // This processor does not run it.
      expect(error).toMatchObject({ code: "native_argument_invalid" });
    }
  }
  expect(compared).toBeGreaterThan(0);
});

test("a cached prefix is good", () => {
  const { handle, cachedTokens } = lane.createSequence(prompt(0), prompt(0).length, how);
  lane.release(handle);
  expect(cachedTokens).toBeGreaterThan(0);
  expect(generate(lane, prompt(0), COUNT, how)).toEqual(alone);
});

test("other names are refused", () => {
  const wrong: EngineOptions = { path, kvTokens: KV_TOKENS, ...JSON.parse('{"kv":"int4"}') };
  expect(() => openEngine(wrong)).toThrowError(expect.objectContaining({ code: "native_argument_invalid" }));
});
