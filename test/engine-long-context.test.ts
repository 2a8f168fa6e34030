import { afterAll, expect, test } from "vitest";
import { closeEngine, NativeLane, openEngine } from "../dist/engine/native-engine.js";
import { append, type Generated, generate, nothing, prefill, sampling } from "./generate.js";
import { ModelDirectory, TINY, tinyModel } from "./tiny-model.js";

/** A long context is shared out over threads; nobody can tell by what comes of it. */

const directory = new ModelDirectory();
afterAll(() => directory.dispose());

const TOKENS = 2000;
const COUNT = 6;
const prompt = Uint32Array.from({ length: TOKENS }, (_, i) => (i * 37 + (i >> 5)) % TINY.vocabulary);
const how = sampling({ logprobs: 5 });

interface Run {
  readonly threads: number;
  readonly kv: "f16" | "bf16" | "int8";
  readonly instructionSet?: string;
}

/** Generates on a fresh engine: no prefix of another run may save it the work that is compared. */
function onEngine(path: string, { threads, kv, instructionSet }: Run, work: (lane: NativeLane) => Generated) {
  const engine = openEngine({
    path,
    kvTokens: 4 * TOKENS,
    threads,
    kv,
    ...(instructionSet && { instructionSet }),
  });
  const lane = new NativeLane({ engine, lane: 0, role: "decode", maxRows: 8, maxBatchTokens: 512 });
  try {
    return work(lane);
  } finally {
    lane.close();
    closeEngine(engine.id);
  }
}

/** The same tokens, each step verifying drafts of which the second is wrong, beside a short sequence. */
function verifying(lane: NativeLane, truth: readonly number[]): Generated {
  const { handle } = lane.createSequence(prompt, prompt.length, how);
  const short = lane.createSequence(prompt.subarray(0, 40), 40, how).handle;
  const out = nothing();
  append(out, prefill(lane, handle, prompt, 0, 512));
  let pending = prefill(lane, short, prompt.subarray(0, 40), 0).tokens[0]!;
  while (out.tokens.length < COUNT) {
    const drafts = [truth[out.tokens.length] ?? 0, TINY.vocabulary - 1, 1];
    const { rows } = lane
      .submit([
        { sequence: short, tokens: [pending], drafts: 0, sample: true },
        { sequence: handle, tokens: [out.tokens.at(-1)!, ...drafts], drafts: drafts.length, sample: true },
      ])
      .collect();
    pending = rows[0]!.tokens[0]!;
    append(out, rows[1]!);
  }
  lane.release(handle);
  lane.release(short);
  return out;
}

test.each([
  [0, "f16"],
  [700, "f16"],
  [0, "bf16"],
  [0, "int8"],
] as const)("window of %i, KV in %s", (window, kv) => {
  const metadata = {
    "llama.context_length": { type: "u32", value: 2 * TOKENS },
    "llama.attention.sliding_window": { type: "u32", value: window },
  } as const;
  const path = directory.write(tinyModel({ metadata, seed: 5 }));
  const alone = onEngine(path, { threads: 1, kv }, (lane) => generate(lane, prompt, COUNT, how));
  for (const threads of [2, 3, 4]) {
    expect(onEngine(path, { threads, kv }, (lane) => generate(lane, prompt, COUNT, how))).toEqual(alone);
  }
  const families = ["portable", "avx2", "avx2-vnni", "avx512-vnni", "neon-dotprod", "neon-i8mm"];
  let compared = 0;
  for (const instructionSet of families) {
    try {
      const run = { threads: 2, kv, instructionSet };
      expect(onEngine(path, run, (lane) => generate(lane, prompt, COUNT, how))).toEqual(alone);
      compared++;
    } catch (error) {
      expect(error).toMatchObject({ code: "native_argument_invalid" });
    }
  }
  expect(compared).toBeGreaterThan(0);
  const verified = onEngine(path, { threads: 2, kv }, (lane) => verifying(lane, alone.tokens));
  expect(verified.tokens.slice(0, COUNT)).toEqual(alone.tokens);
  expect(verified.logprobs.slice(0, COUNT)).toEqual(alone.logprobs);
});
