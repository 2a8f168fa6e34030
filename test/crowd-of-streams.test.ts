import { afterAll, beforeAll, expect, test } from "vitest";
import { type ServingRuntime, startRuntime } from "../dist/actors/start.js";
import { configSchema } from "../dist/config/schema.js";
import { resolveModel } from "../dist/model/resolve.js";
import { openStream, promptOf, type Stream, until } from "./streams.js";

/** 256 streams at once on the real model: some read nothing, some are cancelled; the others must not notice. */

const STREAMS = 256;
const KINDS = 16;
const TOKENS = 10;
const SILENT_CREDIT = 2;
let runtime: ServingRuntime;

beforeAll(async () => {
  const config = configSchema.parse({ server: { stallMs: 1000 } });
  runtime = await startRuntime(config, await resolveModel("smollm2-135m-instruct"));
});

afterAll(() => runtime.stop());

function open(kind: number, options: { credit?: number; onTokens?: (stream: Stream) => void } = {}): Stream {
  return openStream(runtime.service, promptOf(kind, 12 + (kind % 5)), {
    maxTokens: TOKENS,
    sampling: { temperature: 1, seed: kind },
    ...options,
  });
}

test("256 streams, 32 reading nothing, 32 cancelled: the others are whole and right, and no block leaks", async () => {
  const alone: Stream[] = [];
  for (let kind = 0; kind < KINDS; kind++) {
    const stream = open(kind);
    await stream.ended;
    alone.push(stream);
  }
  const silent: Stream[] = [];
  const cancelled: Stream[] = [];
  const whole: { stream: Stream; kind: number }[] = [];
  for (let i = 0; i < STREAMS; i++) {
    const kind = i % KINDS;
    if (i % 8 === 3) silent.push(open(kind, { credit: SILENT_CREDIT }));
    else if (i % 8 === 5) {
      cancelled.push(
        open(kind, { onTokens: ({ ids, generation }) => ids.length > 2 && generation.cancel() }),
      );
    } else whole.push({ stream: open(kind), kind });
  }

  const ends = await Promise.all(whole.map(({ stream }) => stream.ended));
  expect(ends).toEqual(whole.map(() => "length"));
  for (const { stream, kind } of whole) expect(stream.ids).toEqual(alone[kind]!.ids);
  for (const stream of silent) {
    expect(await stream.ended).toBe("slow_reader");
    expect(stream.ids.length).toBe(SILENT_CREDIT);
  }
  for (const stream of cancelled) expect(await stream.ended).toBe("cancelled");

  await until(() => runtime.service.snapshot().kv.sequences === 0);
  const { kv, requestsRunning, requestsWaiting, resumptions } = runtime.service.snapshot();
  expect(kv.usedBlocks).toBe(0);
  expect(kv.freeBlocks + kv.cachedBlocks).toBe(kv.totalBlocks);
  expect([requestsRunning, requestsWaiting, resumptions]).toEqual([0, 0, 0]);
});
