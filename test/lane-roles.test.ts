import { describe, expect, test } from "vitest";
import { startRuntime } from "../dist/actors/start.js";
import { configSchema } from "../dist/config/schema.js";
import { GREEDY } from "../dist/engine/engine.js";
import { answerOf } from "../dist/engine/simulated-model.js";
import { resolveModel } from "../dist/model/resolve.js";
import { PairRoles } from "../dist/policy/pair-roles.js";
import { House } from "../dist/simulate/house.js";
import { observed } from "../dist/simulate/observed.js";
import { stepCostOf } from "../dist/simulate/serving/hardware.js";
import { loadHardware } from "../dist/simulate/serving/load-hardware.js";
import { openStream, promptOf, type Stream, until } from "./streams.js";

/** Lanes that do each other's work while one kind starves. */

describe("the roles of a pair", () => {
  const constants = { balanced: true, lendPressure: 2, lendSteps: 3 };
  const calm = { decode: 1, prefillSteps: 0, prefillBusy: 0 };

  test("a prefill lane decodes once decode is full, until it is not, or until prompts pile up", () => {
    const roles = new PairRoles(1, constants);
    expect(roles.observe(0, { ...calm, decode: 1.9 })).toBe(false);
    expect(roles.observe(0, { ...calm, decode: 2 })).toBe(true);
    expect([roles.keeps(0), roles.computes(0)]).toEqual([true, false]);
    // No change back at the first sign.
    expect(roles.observe(0, { decode: 1.3, prefillSteps: 1.5, prefillBusy: 0.7 })).toBe(false);
    expect(roles.observe(0, { decode: 1.3, prefillSteps: 2, prefillBusy: 0.7 })).toBe(true);
    expect(roles.observe(0, { ...calm, decode: 2, prefillBusy: 0.6 })).toBe(false);
    expect(roles.lending).toEqual({ prefill: 0, decode: 0 });
  });

  test("a decode lane computes any prompt once they pile up and it has time", () => {
    const roles = new PairRoles(1, constants);
    expect(roles.observe(0, { decode: 1.5, prefillSteps: 9, prefillBusy: 1 })).toBe(false);
    expect(roles.observe(0, { decode: 1, prefillSteps: 3, prefillBusy: 1 })).toBe(true);
    expect([roles.keeps(0), roles.computes(0)]).toEqual([false, true]);
    expect(roles.observe(0, { decode: 1.5, prefillSteps: 2, prefillBusy: 1 })).toBe(false);
    expect(roles.observe(0, { decode: 1.5, prefillSteps: 1, prefillBusy: 1 })).toBe(true);
    expect(roles.lending).toEqual({ prefill: 0, decode: 0 });
  });

  test("never change where they are static", () => {
    const roles = new PairRoles(1, { ...constants, balanced: false });
    expect(roles.observe(0, { decode: 99, prefillSteps: 99, prefillBusy: 0 })).toBe(false);
  });
});

const MODEL = { seed: 5, vocabulary: 64, draftability: 0.7 };

/**
 * Many short prompts with long answers, then a heap of long prompts. Returns how many answers were wrong, and what the
 * lanes did for each other.
 */
function phases(settings: object, kill?: { readonly actor: string; readonly atMs: number }) {
  const counts = { done: 0, wrong: 0, kept: 0, handedBack: 0, longDirect: 0 };
  const house = new House({
    config: configSchema.parse({
      pairs: 1,
      engine: { kvTokens: 120_000 },
      prefill: { maxBatchTokens: 2048 },
      decode: { maxRows: 128, maxBatchTokens: 512 },
      scheduler: { interactive: { ttftMs: 0, tpotMs: 0 } },
      router: settings,
      stepCost: { fixedMs: 8.3, tokenMs: 0.077, contextMs: 0.32, attendMs: 0.003, rowMs: 0.01 },
    }),
    model: MODEL,
    cost: stepCostOf(loadHardware("a800-7b"), "prefill"),
    contextTokens: 8192,
    simulation: { seed: 3, roundTrip: true },
    tampering: {
      functions: ({ name }, honest) => ({
        ...honest,
        behaviour: (options, resources) => {
          return observed(honest.behaviour(options, resources), (turn) => {
            if (turn.kind !== "message") return;
            const { message } = turn;
            if (name === "prefill.0" && message.type === "route") counts.kept += message.keep;
            if (name === "decode.0" && message.type === "handoff" && message.ids.length > 1)
              counts.handedBack++;
            if (name === "decode.0" && message.type === "route" && message.promptTokens > 1000)
              counts.longDirect++;
          });
        },
      }),
    },
  });
  const answers = Array.from({ length: 150 }, (_, i) => ({ atMs: 1 + 28 * i, length: 100, maxTokens: 600 }));
  const prompts = Array.from({ length: 8 }, (_, i) => ({ atMs: 4500 + i, length: 4000, maxTokens: 5 }));
  // Once answers are written and little decodes.
  const last = Array.from({ length: 8 }, (_, i) => ({ atMs: 30_000 + 50 * i, length: 4000, maxTokens: 5 }));
  const requests = [...answers, ...prompts, ...last];
  requests.forEach(({ atMs, length, maxTokens }, i) => {
    const prompt = Uint32Array.from(
      { length },
      (_, at) => (at * 7 + i * 13 + (at >> 5) * i) % MODEL.vocabulary,
    );
    const sampling = { ...GREEDY, seed: i };
    const answer = answerOf(MODEL, prompt, sampling, maxTokens);
    const got: number[] = [];
    // Every third reader takes a few tokens at a time: credit must find the lane that decodes.
    const slow = i % 3 === 0;
    house.simulation.at(atMs, () => {
      const generation = house.gateway.generate(
        { prompt, maxTokens, sampling, class: "interactive", deadlineMs: 0, credit: slow ? 8 : 1e9 },
        {
          tokens: ({ ids }) => {
            got.push(...ids);
            if (slow) generation.grant(ids.length);
          },
          done: () => {
            counts.done++;
            if (String(got) !== String(answer.ids)) counts.wrong++;
          },
          failed: () => counts.wrong++,
        },
      );
    });
  });
  if (kill) house.simulation.at(kill.atMs, () => house.simulation.kill(kill.actor));
  for (let i = 0; i < 2_000_000 && counts.done < requests.length && house.simulation.step(); i++);
  expect(house.engine.pool.counts().usedBlocks).toBe(0);
  return { ...counts, all: requests.length };
}

describe("a pair of simulated A800s", () => {
  test("decodes in both lanes, hands back when prompts pile up, and computes them in both: the same tokens", () => {
    // Three steps: the eight prompts at the end are to be too many for the prefill lane.
    const { done, all, wrong, kept, handedBack, longDirect } = phases({ lendSteps: 3 });
    expect({ done, wrong }).toEqual({ done: all, wrong: 0 });
    expect(kept).toBeGreaterThan(10);
    expect(handedBack).toBeGreaterThan(0);
    expect(longDirect).toBeGreaterThan(0);
  });

  test("keeps to its roles where they are static", () => {
    const { done, all, ...counts } = phases({ roles: "static" });
    expect(done).toBe(all);
    expect(counts).toEqual({ wrong: 0, kept: 0, handedBack: 0, longDirect: 0 });
  });

  test.each([
    { actor: "prefill.0", atMs: 3500 },
    { actor: "decode.0", atMs: 3500 },
    // While rows go back.
    { actor: "prefill.0", atMs: 4520 },
    { actor: "decode.0", atMs: 4520 },
    { actor: "router", atMs: 4000 },
    { actor: "scheduler", atMs: 4510 },
  ])("$actor dies after $atMs ms: the same tokens", (kill) => {
    const { done, all, wrong, kept } = phases({}, kill);
    expect({ done, wrong }).toEqual({ done: all, wrong: 0 });
    expect(kept).toBeGreaterThan(0);
  });
});

describe("on the real engine", () => {
  async function serve(router: object, kill: boolean) {
    const path = await resolveModel("smollm2-135m-instruct");
    const runtime = await startRuntime(configSchema.parse({ router }), path);
    try {
      const streams: Stream[] = [];
      // One after another, so that the prefill lane is idle most of the time.
      for (let seed = 0; seed < 12; seed++) {
        const stream = openStream(runtime.service, promptOf(seed + 1, 20 + 5 * seed), {
          maxTokens: 300,
          sampling: { temperature: seed % 2, seed, logprobs: seed % 4 === 0 ? 1 : -1 },
        });
        streams.push(stream);
        await until(() => stream.ids.length > 12);
      }
      if (kill) await runtime.system.kill("prefill.0");
      expect(new Set(await Promise.all(streams.map(({ ended }) => ended)))).toEqual(new Set(["length"]));
      const router = (await runtime.system.inspect()).find(({ name }) => name === "router");
      return { answers: streams.map(({ ids }) => ids), kept: router?.details?.kept };
    } finally {
      await runtime.stop();
    }
  }

  test("a prefill lane that decodes gives the same tokens, even when it dies; by default it does not", async () => {
    const usual = await serve({}, false);
    expect(usual.kept).toBe(0);
    for (const kill of [false, true]) {
      const balanced = await serve({ roles: "balanced", lendPressure: 1 }, kill);
      expect(balanced.kept).toBeGreaterThan(0);
      expect(balanced.answers).toEqual(usual.answers);
    }
  });
});
