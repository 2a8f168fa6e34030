import { afterAll, beforeAll, expect, test } from "vitest";
import { type ServingRuntime, startRuntime } from "../dist/actors/start.js";
import { configSchema } from "../dist/config/schema.js";
import { resolveModel } from "../dist/model/resolve.js";
import type { Span } from "../dist/runtime/index.js";
import { openStream, promptOf, until } from "./streams.js";

/** The trace of one request on the real engine: who did what, in which order. */

const PREFILL_ROLE = 0;
let runtime: ServingRuntime;

beforeAll(async () => {
  const config = configSchema.parse({ runtime: { trace: true }, prefill: { maxBatchTokens: 64 } });
  runtime = await startRuntime(config, await resolveModel("smollm2-135m-instruct"));
});

afterAll(() => runtime.stop());

test("a request is computed by two actors, handed over without a copy, its first token sent by prefill", async () => {
  const before = runtime.service.snapshot().kv;
  const stream = openStream(runtime.service, promptOf(1, 150), { maxTokens: 8 });
  await until(() => stream.ids.length > 0);
  const during = runtime.service.snapshot().kv;
  expect(await stream.ended).toBe("length");
  const spans: Span[] = [];
  await until(() => {
    spans.push(...runtime.system.traces());
    return spans.some(({ name }) => name === "decode");
  });
  const of = (name: string): Span[] => spans.filter((span) => span.name === name);

  // 150 tokens in chunks of 64, all on the prefill lane; every step after that on the decode lane.
  expect(of("prefill").map(({ actor, value }) => [actor, value])).toEqual([
    ["prefill.0", 64],
    ["prefill.0", 64],
    ["prefill.0", 22],
  ]);
  expect(new Set(of("decode").map(({ actor }) => actor))).toEqual(new Set(["decode.0"]));
  expect(of("first token").map(({ actor, value }) => [actor, value])).toEqual([["gateway", PREFILL_ROLE]]);
  const order = ["queue", "route", "prefill", "hand over", "adopt", "decode"];
  const ends = order.map((name) => of(name)[0]!.end);
  expect(ends).toEqual([...ends].sort((a, b) => a - b));
  // The prompt's blocks exist once, on both sides of the hand-off: 150 tokens and the output in blocks of 32.
  expect(during.usedBlocks - before.usedBlocks).toBeLessThanOrEqual(5);
  expect(of("hand over").length).toBe(1);
});
