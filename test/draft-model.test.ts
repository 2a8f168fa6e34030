import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ServingRuntime, startOver, startRuntime } from "../dist/actors/start.js";
import { configSchema } from "../dist/config/schema.js";
import { GREEDY, type Sampling } from "../dist/engine/engine.js";
import {
  closeEngine,
  type EngineInfo,
  engineKv,
  NativeLane,
  openEngine,
} from "../dist/engine/native-engine.js";
import { openStream, type Stream } from "./streams.js";
import { ModelDirectory, TINY, tinyModel } from "./tiny-model.js";

/** A draft model changes nothing but speed, and leaves nothing behind. */

const models = new ModelDirectory();
let path: string;
let stranger: string;

beforeAll(() => {
  path = models.write(tinyModel({ seed: 3 }));
  stranger = models.write(tinyModel({ seed: 8 }));
});

afterAll(() => models.dispose());

const PROMPTS = Array.from({ length: 8 }, (_, i) =>
  Uint32Array.from({ length: 24 + 9 * i }, (_, at) => (at * (i + 3) + at * at) % (40 + i)),
);
const sampled = (seed: number): Sampling => ({ ...GREEDY, temperature: 0.8, topP: 0.95, seed });

interface Answer {
  readonly ids: number[];
  readonly accepted: number;
}

function generate({ service }: ServingRuntime, prompt: Uint32Array, sampling: Sampling, maxTokens = 120) {
  let cancel = () => {};
  const answer = new Promise<Answer>((resolve, reject) => {
    const ids: number[] = [];
    const request = {
      prompt,
      maxTokens,
      sampling,
      class: "interactive" as const,
      deadlineMs: 0,
      credit: Number.POSITIVE_INFINITY,
    };
    const { cancel: stop } = service.generate(request, {
      tokens: (delivered) => ids.push(...delivered.ids),
      done: ({ acceptedTokens }) => resolve({ ids, accepted: acceptedTokens }),
      failed: reject,
    });
    cancel = stop;
  });
  return { answer, cancel };
}

/** The model and a draft model with actors over them; engines outlive the actors, so that pools can be looked at. */
async function over<R>(
  draftPath: string,
  speculation: object,
  use: (runtime: ServingRuntime, draft: EngineInfo) => Promise<R>,
  { draftKvTokens = 4096, modelPath = path, calibrateMs = 20, router = {} } = {},
): Promise<R> {
  const config = configSchema.parse({
    model: modelPath,
    engine: { kvTokens: 4096, threads: 2 },
    stepCost: { calibrateMs },
    speculation,
    router,
    runtime: { trace: true },
  });
  const engine = openEngine({ path: modelPath, kvTokens: 4096, threads: 2 });
  const draft = openEngine({ path: draftPath, kvTokens: draftKvTokens, threads: 2 });
  const runtime = await startOver(config, engine, 0, undefined, { engine: draft, path: draftPath });
  try {
    expect(runtime.service.snapshot().draftKv).toMatchObject({ totalBlocks: engineKv(draft.id).totalBlocks });
    return await use(runtime, draft);
  } finally {
    await runtime.stop();
    expect(engineKv(engine.id)).toMatchObject({ usedBlocks: 0, sequences: 0 });
    expect(engineKv(draft.id)).toMatchObject({ usedBlocks: 0, sequences: 0 });
    closeEngine(draft.id);
    closeEngine(engine.id);
  }
}

const all = (runtime: ServingRuntime, sampling: (i: number) => Sampling) =>
  Promise.all(PROMPTS.map((prompt, i) => generate(runtime, prompt, sampling(i)).answer));
const mixed = (i: number) => (i % 2 === 0 ? GREEDY : sampled(i));

function byModel({ service }: ServingRuntime): { drafted: number; held: number } {
  const lane = service.snapshot().lanes.find(({ name }) => name === "decode.0");
  return lane!.drafters.find(({ name }) => name === "draft model")!;
}

describe("a sequence that runs ahead", () => {
  test("is cut back to what is known, and goes on as if it had never guessed", () => {
    const engine = openEngine({ path, kvTokens: 1024 });
    const lane = new NativeLane({ engine, lane: 0, role: "decode", maxRows: 4, maxBatchTokens: 128 });
    try {
      const text = PROMPTS[3]!;
      const open = () => lane.createSequence(text, text.length, GREEDY, [0, 0], 8).handle;
      const step = (sequence: ReturnType<typeof open>, tokens: Uint32Array) =>
        lane.submit([{ sequence, tokens, drafts: 0, sample: true }]).collect().rows[0]!.tokens[0]!;
      const straight = open();
      const first = step(straight, text.subarray(lane.length(straight)));
      const second = step(straight, Uint32Array.of(first));
      const ahead = open();
      expect(step(ahead, text.subarray(lane.length(ahead)))).toBe(first);
      const known = lane.length(ahead);
      // Guesses that fill a block and more.
      for (let guess = 0; guess < 7; guess++) step(ahead, Uint32Array.of((first + 1 + guess) % 90));
      lane.cut(ahead, known);
      expect(lane.length(ahead)).toBe(known);
      expect(step(ahead, Uint32Array.of(first))).toBe(second);
      expect(() => lane.cut(ahead, known + 2)).toThrow(/cannot be cut/);
      expect(() => lane.cut(ahead, 1)).toThrow(/cannot be cut/);
      lane.release(straight);
      lane.release(ahead);
      expect(() => lane.cut(ahead, known)).toThrow();
      expect(engineKv(engine.id).usedBlocks).toBe(0);
    } finally {
      lane.close();
      closeEngine(engine.id);
    }
  });
});

describe("answers with a draft model", () => {
  test("are the same tokens, greedy and sampled, whatever it guesses", async () => {
    const plain = await over(path, { maxDepth: 0 }, (runtime) => all(runtime, mixed));
    for (const draftPath of [path, stranger]) {
      for (const speculation of [{ maxDepth: 6, fixedDepth: 4 }, {}]) {
        const drafted = await over(draftPath, speculation, (runtime) => all(runtime, mixed));
        expect(drafted.map(({ ids }) => ids)).toEqual(plain.map(({ ids }) => ids));
      }
    }
  });

  test("a model that drafts for itself is right nearly every time, sampled too", async () => {
    for (const how of [() => GREEDY, sampled]) {
      await over(path, { fixedDepth: 4 }, async (runtime) => {
        const answers = await all(runtime, how);
        const { drafted, held } = byModel(runtime);
        const tokens = answers.reduce((sum, { ids }) => sum + ids.length, 0);
        expect(held).toBeGreaterThan(0.7 * tokens);
        expect(held / drafted).toBeGreaterThan(0.95);
      });
    }
  });

  test("where it does not pay it is tried seldom, and found out", async () => {
    // As dear as the model itself, and always wrong.
    await over(stranger, {}, async (runtime) => {
      for (let round = 0; round < 3; round++) await all(runtime, () => GREEDY);
      const { drafted, held } = byModel(runtime);
      expect(held).toBeLessThanOrEqual(0.2 * drafted);
      expect(drafted).toBeLessThan(0.05 * 3 * PROMPTS.length * 120);
    });
  });
});

describe("where it pays", () => {
  /** As `path`, and as many layers more, which change nothing but the time that a step takes. */
  function deepened(more: number): string {
    const { embedding, feedForward, heads, kvHeads, layers } = TINY;
    const kv = (embedding / heads) * kvHeads;
    const zeros = (name: string, cols: number, rows: number) =>
      ({ name, shape: [cols, rows], format: "F16", bytes: new Uint8Array(2 * cols * rows) }) as const;
    const norm = (name: string) => {
      const ones = new Uint8Array(new Float32Array(embedding).fill(1).buffer);
      return { name, shape: [embedding], format: "F32", bytes: ones } as const;
    };
    const extraTensors = Array.from({ length: more }, (_, i) => `blk.${layers + i}.`).flatMap((block) => [
      norm(`${block}attn_norm.weight`),
      norm(`${block}ffn_norm.weight`),
      zeros(`${block}attn_q.weight`, embedding, embedding),
      zeros(`${block}attn_k.weight`, embedding, kv),
      zeros(`${block}attn_v.weight`, embedding, kv),
      zeros(`${block}attn_output.weight`, embedding, embedding),
      zeros(`${block}ffn_gate.weight`, embedding, feedForward),
      zeros(`${block}ffn_up.weight`, embedding, feedForward),
      zeros(`${block}ffn_down.weight`, feedForward, embedding),
    ]);
    const metadata = { "llama.block_count": { type: "u32", value: layers + more } } as const;
    return models.write(tinyModel({ seed: 3, metadata, extraTensors }));
  }

  test("most tokens are its drafts", async () => {
    // Other drafters have nothing to go by.
    const wild = (seed: number): Sampling => ({ ...GREEDY, temperature: 3, seed });
    const plain = await over(path, { maxDepth: 0 }, (runtime) => all(runtime, wild));
    await over(
      path,
      {},
      async (runtime) => {
        let tokens = 0;
        for (const [i, prompt] of PROMPTS.entries()) {
          const { ids } = await generate(runtime, prompt, wild(i)).answer;
          expect(ids).toEqual(plain[i]!.ids);
          tokens += ids.length;
        }
        expect(byModel(runtime).held).toBeGreaterThan(tokens / 2);
      },
      // Enough for steps of all sizes to be timed.
      { modelPath: deepened(100), calibrateMs: 500 },
    );
  });
});

describe("its KV", () => {
  test("goes with requests that are cancelled, and with a lane that dies", async () => {
    await over(path, { fixedDepth: 4 }, async (runtime, draft) => {
      const cancelled = PROMPTS.map((prompt) => {
        const { answer, cancel } = generate(runtime, prompt, GREEDY, 400);
        return { answer: answer.catch((error: { code: string }) => error.code), cancel };
      });
      await waitFor(() => engineKv(draft.id).sequences === PROMPTS.length);
      for (const { cancel } of cancelled) cancel();
      expect(new Set(await Promise.all(cancelled.map(({ answer }) => answer)))).toEqual(
        new Set(["cancelled"]),
      );
      await waitFor(() => engineKv(draft.id).usedBlocks === 0);
      const expected = (await all(runtime, mixed)).map(({ ids }) => ids);
      const again = all(runtime, mixed);
      await waitFor(() => engineKv(draft.id).sequences > 0);
      runtime.system.kill("decode.0");
      expect((await again).map(({ ids }) => ids)).toEqual(expected);
      await waitFor(() => engineKv(draft.id).usedBlocks === 0);
    });
  });

  test("drafts in a prefill lane that decodes, too", async () => {
    const serve = (router: object) =>
      over(
        path,
        { fixedDepth: 4 },
        async (runtime) => {
          const streams: Stream[] = [];
          // One after another: the prefill lane is idle most of the time, and the decode lane is not.
          for (const [i, prompt] of PROMPTS.entries()) {
            const stream = openStream(runtime.service, prompt, { maxTokens: 200, sampling: mixed(i) });
            streams.push(stream);
            await waitFor(() => stream.ids.length > 20);
          }
          await Promise.all(streams.map(({ ended }) => ended));
          const guesses = runtime.system.traces().filter(({ name }) => name === "drafts from draft model");
          return { ids: streams.map(({ ids }) => ids), lanes: new Set(guesses.map(({ actor }) => actor)) };
        },
        { router },
      );
    const usual = await serve({});
    expect(usual.lanes).toEqual(new Set(["decode.0"]));
    const balanced = await serve({ roles: "balanced", lendPressure: 1 });
    expect(balanced.lanes).toEqual(new Set(["prefill.0", "decode.0"]));
    expect(balanced.ids).toEqual(usual.ids);
  });

  test("may run out: answers go on without it", async () => {
    const plain = await over(path, { maxDepth: 0 }, (runtime) => all(runtime, mixed));
    const cramped = await over(path, { fixedDepth: 4 }, (runtime) => all(runtime, mixed), {
      draftKvTokens: 128,
    });
    expect(cramped.map(({ ids }) => ids)).toEqual(plain.map(({ ids }) => ids));
  });

  /** Until another thread has done something that nothing tells of. */
  async function waitFor(holds: () => boolean): Promise<void> {
    while (!holds()) await new Promise((resolve) => setImmediate(resolve));
  }
});

describe("a draft model with another vocabulary", () => {
  const start = (draftPath: string) => {
    const config = configSchema.parse({
      model: path,
      engine: { kvTokens: 1024 },
      stepCost: { calibrateMs: 0 },
      speculation: { draftModel: draftPath },
    });
    return startRuntime(config, path, () => undefined, draftPath);
  };

  test("is refused at start by the line that names it", async () => {
    const other = models.write(
      tinyModel({
        seed: 3,
        metadata: { "tokenizer.ggml.tokens": { type: "strings", value: ["a", "x", "ß"] } },
      }),
    );
    await expect(start(other)).rejects.toMatchObject({
      code: "config_invalid",
      message: expect.stringMatching(/"speculation.draftModel".*vocabulary.*token 1 is "x" there, and "b"/),
      details: { key: "speculation.draftModel" },
    });
  });
});
