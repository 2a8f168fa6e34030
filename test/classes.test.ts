import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ServingRuntime, startRuntime } from "../dist/actors/start.js";
import { configSchema } from "../dist/config/schema.js";
import { resolveModel } from "../dist/model/resolve.js";
import { openStream, promptOf, type Stream, until } from "./streams.js";

/** Offline work under interactive requests, on the real engine. */

let model: string;

beforeAll(async () => {
  model = await resolveModel("smollm2-135m-instruct");
});

function start(config: object): Promise<ServingRuntime> {
  return startRuntime(configSchema.parse({ speculation: { maxDepth: 0 }, ...config }), model);
}

describe("with KV for all", () => {
  let runtime: ServingRuntime;

  beforeAll(async () => {
    runtime = await start({});
  });

  afterAll(() => runtime.stop());

  test("offline streams stand still while an interactive one runs, and go on where they stood", async () => {
    const offline = (seed: number, onTokens: (stream: Stream) => void = () => {}) =>
      openStream(runtime.service, promptOf(seed, 40), { maxTokens: 150, class: "offline", onTokens });
    const undisturbed = [1, 2, 3].map((seed) => offline(seed));
    await Promise.all(undisturbed.map(({ ended }) => ended));

    const streams = [1, 2, 3].map((seed) => offline(seed));
    await until(() => streams.every(({ ids }) => ids.length > 3));
    let during = Number.NaN;
    const count = () => streams.reduce((sum, { ids }) => sum + ids.length, 0);
    const interactive = openStream(runtime.service, promptOf(9, 60), {
      maxTokens: 24,
      onTokens: () => {
        if (Number.isNaN(during)) during = count();
      },
    });
    expect(await interactive.ended).toBe("length");
    // Between its first token and its last: what a step in hand drew, at most, for each of the three.
    expect(count() - during).toBeLessThanOrEqual(3);
    expect(count()).toBeLessThan(450);

    expect(await Promise.all(streams.map(({ ended }) => ended))).toEqual(Array(3).fill("length"));
    expect(streams.map(({ ids }) => ids)).toEqual(undisturbed.map(({ ids }) => ids));
    const { preemptions, resumptions } = runtime.service.snapshot();
    expect({ preemptions, resumptions }).toEqual({ preemptions: 0, resumptions: 0 });
  });
});

describe("with KV for offline work alone", () => {
  let runtime: ServingRuntime;

  beforeAll(async () => {
    runtime = await start({ engine: { kvTokens: 704 } });
  });

  afterAll(() => runtime.stop());

  test("an interactive request gets blocks of offline ones, which finish with the same tokens", async () => {
    const offline = (seed: number) =>
      openStream(runtime.service, promptOf(seed, 40), { maxTokens: 160, class: "offline" });
    const undisturbed: number[][] = [];
    for (const seed of [1, 2, 3]) {
      const alone = offline(seed);
      await alone.ended;
      undisturbed.push(alone.ids);
    }
    const streams = [1, 2, 3].map(offline);
    await until(() => streams.every(({ ids }) => ids.length > 3));
    const interactive = openStream(runtime.service, promptOf(9, 100), { maxTokens: 60 });
    expect(await interactive.ended).toBe("length");
    expect(streams.some(({ ids }) => ids.length < 160)).toBe(true);

    expect(await Promise.all(streams.map(({ ended }) => ended))).toEqual(Array(3).fill("length"));
    expect(streams.map(({ ids }) => ids)).toEqual(undisturbed);
    expect(runtime.service.snapshot().preemptions).toBeGreaterThan(0);
    await until(() => runtime.service.snapshot().kv.usedBlocks === 0);
  });
});
