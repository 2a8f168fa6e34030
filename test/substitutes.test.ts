import { expect, test } from "vitest";
import { startRuntime } from "../dist/actors/start.js";
import { configSchema } from "../dist/config/schema.js";
import { resolveModel } from "../dist/model/resolve.js";
import { AcceptanceDepth } from "../dist/policy/acceptance-depth.js";
import { openStream, promptOf } from "./streams.js";

/** What is usual in place of the parts, kept to compare with: it must serve as well as it can, to the same tokens. */

async function answersWith(
  settings: object,
): Promise<{ answers: number[][]; lanes: Record<string, number> }> {
  const path = await resolveModel("smollm2-135m-instruct");
  const runtime = await startRuntime(configSchema.parse(settings), path);
  try {
    const streams = [70, 600, 5, 300].map((tokens, seed) =>
      openStream(runtime.service, promptOf(seed + 1, tokens), {
        maxTokens: 40,
        sampling: { temperature: seed % 2, seed, logprobs: 0 },
        class: seed === 2 ? "offline" : "interactive",
      }),
    );
    expect(new Set(await Promise.all(streams.map(({ ended }) => ended)))).toEqual(new Set(["length"]));
    const { lanes } = runtime.service.snapshot();
    return {
      answers: streams.map(({ ids }) => ids),
      lanes: Object.fromEntries(lanes.map(({ name, steps }) => [name, steps])),
    };
  } finally {
    await runtime.stop();
  }
}

test("fused lanes, FIFO, static roles and depth by acceptance give the same tokens", async () => {
  const whole = await answersWith({});
  const fused = await answersWith({ lanes: "fused" });
  expect(fused.answers).toEqual(whole.answers);
  // The decode lane did it all.
  expect(fused.lanes["prefill.0"] ?? 0).toBe(0);
  expect(whole.lanes["prefill.0"]).toBeGreaterThan(0);
  for (const settings of [
    { scheduler: { policy: "fifo" } },
    { router: { roles: "static" } },
    { speculation: { policy: "acceptance" } },
  ]) {
    expect((await answersWith(settings)).answers).toEqual(whole.answers);
  }
});

test("depth by acceptance grows by 2 while all drafts hold, falls by 1 else, and knows nothing of load", () => {
  const depths = new AcceptanceDepth(8);
  const [row, other] = [{}, {}];
  expect(depths.of(row)).toBe(5);
  depths.observe(row, 5, 5);
  expect(depths.of(row)).toBe(7);
  depths.observe(row, 7, 7);
  expect(depths.of(row)).toBe(8);
  depths.observe(row, 8, 7);
  expect(depths.of(row)).toBe(7);
  depths.observe(row, 0, 0);
  expect(depths.of(row)).toBe(7);
  for (let i = 0; i < 20; i++) depths.observe(row, depths.of(row), 0);
  expect(depths.of(row)).toBe(1);
  expect(depths.of(other)).toBe(5);
});
