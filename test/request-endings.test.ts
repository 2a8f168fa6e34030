import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ServingRuntime, startRuntime } from "../dist/actors/start.js";
import { configSchema } from "../dist/config/schema.js";
import { GREEDY } from "../dist/engine/engine.js";
import type { StreamServeError } from "../dist/errors.js";
import { resolveModel } from "../dist/model/resolve.js";
import { openStream, promptOf, until } from "./streams.js";

/** How a request ends before its time, at every stage, on the real engine: its KV is free by then. */

let model: string;
let runtime: ServingRuntime;

beforeAll(async () => {
  model = await resolveModel("smollm2-135m-instruct");
  const config = configSchema.parse({
    scheduler: { maxRunning: 2, maxWaiting: 4 },
    server: { stallMs: 300 },
    engine: { kvTokens: 4096 },
  });
  runtime = await startRuntime(config, model);
});

afterAll(() => runtime.stop());

const kv = () => runtime.service.snapshot().kv;

describe("cancel", () => {
  test("in the same turn as the submission", async () => {
    const stream = openStream(runtime.service, promptOf(1, 40), { maxTokens: 200 });
    stream.generation.cancel();
    expect(await stream.ended).toBe("cancelled");
    expect(kv().usedBlocks).toBe(0);
    expect(stream.ids).toEqual([]);
  });

  test("while it waits for admission", async () => {
    const running = [2, 3].map((seed) => openStream(runtime.service, promptOf(seed, 20), { maxTokens: 60 }));
    const waiting = openStream(runtime.service, promptOf(4, 20), { maxTokens: 60 });
    await until(() => running.every(({ ids }) => ids.length > 2));
    expect(runtime.service.snapshot().requestsWaiting).toBe(1);
    waiting.generation.cancel();
    expect(await waiting.ended).toBe("cancelled");
    expect(waiting.ids).toEqual([]);
    for (const { ended } of running) expect(await ended).toBe("length");
    expect(kv().usedBlocks).toBe(0);
  });

  test("while its prompt is computed", async () => {
    const stream = openStream(runtime.service, promptOf(5, 2000), { maxTokens: 20 });
    await until(() => kv().usedBlocks > 2);
    stream.generation.cancel();
    expect(await stream.ended).toBe("cancelled");
    expect(kv().usedBlocks).toBe(0);
    expect(stream.ids).toEqual([]);
  });

  test("with its first token, on the way from prefill to decode", async () => {
    // Credit for one: a turn that comes late may find the decode lane's tokens there too.
    const stream = openStream(runtime.service, promptOf(6, 50), {
      maxTokens: 200,
      credit: 1,
      onTokens: ({ generation }) => generation.cancel(),
    });
    expect(await stream.ended).toBe("cancelled");
    expect(kv().usedBlocks).toBe(0);
    expect(stream.ids.length).toBe(1);
  });

  test("while it decodes: the rest of the batch goes on, its prefix stays cached", async () => {
    const other = openStream(runtime.service, promptOf(7, 30), { maxTokens: 40 });
    const stream = openStream(runtime.service, promptOf(8, 100), {
      maxTokens: 200,
      onTokens: ({ ids, generation }) => ids.length >= 5 && generation.cancel(),
    });
    expect(await stream.ended).toBe("cancelled");
    expect(await other.ended).toBe("length");
    expect(kv().usedBlocks).toBe(0);
    expect(kv().cachedBlocks).toBeGreaterThanOrEqual(3);
  });
});

test("stop ends a request well, with what was sent", async () => {
  const stream = openStream(runtime.service, promptOf(9, 30), {
    maxTokens: 200,
    onTokens: ({ ids, generation }) => ids.length >= 5 && generation.stop(),
  });
  expect(await stream.ended).toBe("stop");
  expect(stream.ids.length).toBeLessThan(100);
  expect(kv().usedBlocks).toBe(0);
});

test("a deadline ends a request in time, at whatever stage", async () => {
  const running = openStream(runtime.service, promptOf(10, 30), { maxTokens: 2000, deadlineMs: 400 });
  // Behind a prompt it might be predicted too late, and be refused as overload.
  await until(() => running.ids.length > 0);
  const behind = openStream(runtime.service, promptOf(11, 1500), { maxTokens: 400, deadlineMs: 400 });
  expect(await Promise.all([running.ended, behind.ended])).toEqual([
    "deadline_exceeded",
    "deadline_exceeded",
  ]);
  await until(() => kv().sequences === 0);
});

test("a reader that takes nothing holds back its own stream alone, and loses it", async () => {
  const silent = openStream(runtime.service, promptOf(12, 30), { maxTokens: 100, credit: 3 });
  const paced = openStream(runtime.service, promptOf(13, 30), {
    maxTokens: 30,
    credit: 1,
    onTokens: ({ generation }) => generation.grant(1),
  });
  expect(await paced.ended).toBe("length");
  expect(await silent.ended).toBe("slow_reader");
  expect(silent.ids.length).toBe(3);
  expect(kv().usedBlocks).toBe(0);
});

test("a reader without any credit at first gets its tokens once it grants", async () => {
  const stream = openStream(runtime.service, promptOf(14, 30), { maxTokens: 8, credit: 0 });
  await until(() => kv().usedBlocks > 0);
  stream.generation.grant(5);
  await until(() => stream.ids.length === 5);
  stream.generation.grant(5);
  expect(await stream.ended).toBe("length");
});

describe("refusals", () => {
  const refused = (prompt: Uint32Array, maxTokens: number): Promise<StreamServeError> =>
    new Promise((resolve) => {
      runtime.service.generate(
        {
          prompt,
          maxTokens,
          sampling: GREEDY,
          class: "interactive",
          deadlineMs: 0,
          credit: Number.POSITIVE_INFINITY,
        },
        { tokens: () => {}, done: () => {}, failed: resolve },
      );
    });

  test("a prompt beyond the context is refused with both numbers", async () => {
    const error = await refused(promptOf(1, 9000), 16);
    expect(error.code).toBe("prompt_too_long");
    const { contextTokens } = runtime.service.info;
    expect(error.details).toMatchObject({ promptTokens: 9000, contextTokens });
  });

  test("a request that the KV pool can never hold is refused with the numbers", async () => {
    const { kvTokens } = runtime.service.info;
    expect(kvTokens).toBeLessThan(5000);
    const error = await refused(promptOf(1, 4000), 1000);
    expect(error.code).toBe("prompt_too_long");
    expect(error.details).toEqual({ promptTokens: 4000, maxTokens: 1000, contextTokens: kvTokens });
  });

  test("an empty prompt and an id outside the vocabulary are refused", async () => {
    expect((await refused(new Uint32Array(0), 5)).code).toBe("empty_prompt");
    expect((await refused(Uint32Array.of(1, 60_000), 5)).code).toBe("invalid_parameter");
  });

  test("one more than may wait is refused with the time to come back, and the others are served", async () => {
    const streams = Array.from({ length: 8 }, (_, i) =>
      openStream(runtime.service, promptOf(20 + i, 20), { maxTokens: 12 }),
    );
    const ends = await Promise.all(streams.map(({ ended }) => ended));
    expect(ends.filter((end) => end === "length").length).toBe(6);
    expect(ends.filter((end) => end === "overloaded").length).toBe(2);
  });
});

test("stopping lets running requests end within the grace, and cancels the rest", async () => {
  const own = await startRuntime(configSchema.parse({ engine: { kvTokens: 4096 } }), model);
  const short = openStream(own.service, promptOf(30, 20), { maxTokens: 5 });
  const long = openStream(own.service, promptOf(31, 20), { maxTokens: 3000 });
  await until(() => long.ids.length > 0);
  const stopped = own.stop(1500);
  const late = openStream(own.service, promptOf(32, 20), { maxTokens: 5 });
  expect(await late.ended).toBe("draining");
  expect(await short.ended).toBe("length");
  expect(await long.ended).toBe("cancelled");
  await stopped;
});
