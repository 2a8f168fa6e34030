import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ServingRuntime, startRuntime } from "../dist/actors/start.js";
import { configSchema } from "../dist/config/schema.js";
import { resolveModel } from "../dist/model/resolve.js";
import { openStream, promptOf, type Stream, until } from "./streams.js";

/** Actors are killed under running streams of the real model: the streams must not notice. */

const STREAMS = 16;
const TOKENS = 24;
let runtime: ServingRuntime;
let undisturbed: number[][];

function open(index: number, onTokens?: (stream: Stream) => void): Stream {
  const options = { maxTokens: TOKENS, sampling: { temperature: 0.8, seed: index } };
  return openStream(
    runtime.service,
    promptOf(index, 24 + index),
    onTokens ? { ...options, onTokens } : options,
  );
}

/** Tokens, not messages: one brings several when drafts hold, and here the same is answered again and again. */
function received(streams: readonly Stream[]): number {
  return streams.reduce((sum, { ids }) => sum + ids.length, 0);
}

beforeAll(async () => {
  runtime = await startRuntime(configSchema.parse({}), await resolveModel("smollm2-135m-instruct"));
  const streams = Array.from({ length: STREAMS }, (_, i) => open(i));
  await Promise.all(streams.map(({ ended }) => ended));
  undisturbed = streams.map(({ ids }) => ids);
});

afterAll(() => runtime.stop());

describe("an actor's thread is killed while 16 streams run", () => {
  // Prefill dies while prompts are computed, the others once tokens flow.
  const cases = [
    ["decode.0", STREAMS * 4],
    ["prefill.0", 1],
    ["prefill.0", STREAMS * 4],
    ["scheduler", STREAMS * 2],
    ["router", 1],
    ["tuner", STREAMS * 2],
  ] as const;
  for (const [victim, after] of cases) {
    test(`${victim} after ${after} tokens: the same tokens as without, none twice`, async () => {
      const restartsBefore = runtime.service.snapshot().actorRestarts;
      let killed: Promise<void> | undefined;
      const count = (): void => {
        if (received(streams) >= after) killed ??= runtime.system.kill(victim);
      };
      const streams: Stream[] = Array.from({ length: STREAMS }, (_, i) => open(i, count));

      const ends = await Promise.all(streams.map(({ ended }) => ended));
      await killed;

      expect(killed).toBeDefined();
      expect(ends).toEqual(Array(STREAMS).fill("length"));
      expect(streams.map(({ ids }) => ids)).toEqual(undisturbed);
      await until(() => runtime.service.snapshot().actorRestarts > restartsBefore);
      await until(() => runtime.service.snapshot().kv.usedBlocks === 0);
      expect(runtime.service.snapshot().kv.sequences).toBe(0);
      expect(runtime.service.snapshot().requestsRunning).toBe(0);
    });
  }

  test("both lanes of the pair die again and again", async () => {
    const kills: Promise<void>[] = [];
    const streams: Stream[] = Array.from({ length: STREAMS }, (_, i) =>
      open(i, () => {
        if (kills.length < 4 && received(streams) >= 40 * (kills.length + 1)) {
          kills.push(runtime.system.kill(kills.length % 2 === 0 ? "decode.0" : "prefill.0"));
        }
      }),
    );

    await Promise.all(streams.map(({ ended }) => ended));
    await Promise.all(kills);

    expect(kills.length).toBe(4);
    expect(streams.map(({ ids }) => ids)).toEqual(undisturbed);
    await until(() => runtime.service.snapshot().kv.usedBlocks === 0);
  });
});
