import { describe, expect, test } from "vitest";
import { startRuntime } from "../dist/actors/start.js";
import { configSchema } from "../dist/config/schema.js";
import { GREEDY } from "../dist/engine/engine.js";
import { answerOf } from "../dist/engine/simulated-model.js";
import { resolveModel } from "../dist/model/resolve.js";
import { House } from "../dist/simulate/house.js";
import { observed } from "../dist/simulate/observed.js";
import { stepCostOf } from "../dist/simulate/serving/hardware.js";
import { loadHardware } from "../dist/simulate/serving/load-hardware.js";
import { openStream, promptOf } from "./streams.js";

/** Short prompts that skip the prefill lane: computed among the decode lane's rows, to the same tokens. */

const MODEL = { seed: 5, vocabulary: 64, draftability: 0.7 };

/** Short prompts arrive while the pair's prefill lane is busy with long ones. Returns how many went straight on. */
function serveBeside(directTokens: number): { direct: number; wrong: number; done: number } {
  let direct = 0;
  let wrong = 0;
  let done = 0;
  const config = configSchema.parse({
    pairs: 1,
    engine: { kvTokens: 40_000 },
    prefill: { maxBatchTokens: 2048 },
    // Smaller than some prompts: those are computed in chunks.
    decode: { maxBatchTokens: 48 },
    router: { directTokens },
    stepCost: { fixedMs: 8.3, tokenMs: 0.077, contextMs: 0.32, attendMs: 0.003, rowMs: 0.01 },
  });
  const house = new House({
    config,
    model: MODEL,
    cost: stepCostOf(loadHardware("a800-7b"), "prefill"),
    contextTokens: 8192,
    simulation: { seed: 3, roundTrip: true },
    tampering: {
      functions: ({ name }, honest) => ({
        ...honest,
        behaviour: (options, resources) => {
          return observed(honest.behaviour(options, resources), (turn) => {
            if (name.startsWith("decode") && turn.kind === "message" && turn.message.type === "route")
              direct++;
          });
        },
      }),
    },
  });
  const lengths = [4000, 4000, ...Array.from({ length: 20 }, (_, i) => 5 + 6 * i), 4000, 100];
  lengths.forEach((length, i) => {
    const prompt = Uint32Array.from({ length }, (_, at) => (at * 7 + i * 13) % MODEL.vocabulary);
    const sampling = { ...GREEDY, seed: i };
    const answer = answerOf(MODEL, prompt, sampling, 40);
    const got: number[] = [];
    house.simulation.at(1 + 10 * i, () => {
      house.gateway.generate(
        { prompt, maxTokens: 40, sampling, class: "interactive", deadlineMs: 0, credit: 1e9 },
        {
          tokens: ({ ids }) => got.push(...ids),
          done: () => {
            done++;
            if (String(got) !== String(answer.ids)) wrong++;
          },
          failed: () => wrong++,
        },
      );
    });
  });
  for (let i = 0; i < 200_000 && done + wrong < lengths.length && house.simulation.step(); i++);
  expect(house.engine.pool.counts().usedBlocks).toBe(0);
  return { direct, wrong, done };
}

describe("a short prompt beside a busy prefill lane", () => {
  test("goes straight to the decode lane, in chunks where a step is too small, and is answered the same", () => {
    const { direct, wrong, done } = serveBeside(128);
    expect({ wrong, done }).toEqual({ wrong: 0, done: 24 });
    expect(direct).toBeGreaterThan(5);
    // Never the long ones.
    expect(direct).toBeLessThanOrEqual(21);
  });

  test("waits like all others when nothing may", () => {
    expect(serveBeside(0)).toEqual({ direct: 0, wrong: 0, done: 24 });
  });
});

test("the real engine gives the same tokens either way", async () => {
  const path = await resolveModel("smollm2-135m-instruct");
  const answers: number[][] = [];
  for (const directTokens of [128, 0]) {
    const runtime = await startRuntime(configSchema.parse({ router: { directTokens } }), path);
    // Long enough to be under way while the short one is routed.
    const long = openStream(runtime.service, promptOf(1, 1500), { maxTokens: 4 });
    const options = { maxTokens: 24, sampling: { temperature: 0.8, seed: 11, logprobs: 0 } };
    const short = openStream(runtime.service, promptOf(3, 70), options);
    expect(await Promise.all([long.ended, short.ended])).toEqual(["length", "length"]);
    answers.push(short.ids);
    const router = (await runtime.system.inspect()).find(({ name }) => name === "router");
    expect(router?.details).toMatchObject({ routed: 2, direct: directTokens > 0 ? 1 : 0 });
    await runtime.stop();
  }
  expect(answers[0]).toEqual(answers[1]);
});
