import { afterAll, beforeAll, expect, test } from "vitest";
import { type ServingRuntime, startRuntime } from "../dist/actors/start.js";
import { configSchema } from "../dist/config/schema.js";
import { resolveModel } from "../dist/model/resolve.js";
import { openStream, promptOf, until } from "./streams.js";

/** Any actor dies, again and again, in an order that a seed gives: `npm run bench -- faults` does so for a minute. */

const KINDS = 8;
const ROUNDS = 5;
const TOKENS = 32;
/** 14 kills in the first seven eighths of all tokens, however many of them speculation puts into a delivery. */
const KILLS = 14;
const TOKENS_A_KILL = (KINDS * ROUNDS * TOKENS * 7) / 8 / KILLS;

let runtime: ServingRuntime;

beforeAll(async () => {
  const config = configSchema.parse({ pairs: 2, runtime: { restarts: 100 } });
  runtime = await startRuntime(config, await resolveModel("smollm2-135m-instruct"));
});

afterAll(() => runtime.stop());

test("requests of both classes complete with the right tokens whoever dies", async () => {
  const open = (kind: number, arrived: (tokens: number) => void = () => {}) => {
    let seen = 0;
    return openStream(runtime.service, promptOf(kind, 20 + 17 * kind), {
      maxTokens: TOKENS,
      class: kind % 4 === 3 ? "offline" : "interactive",
      tenant: `tenant ${kind % 3}`,
      sampling: kind % 2 === 0 ? {} : { temperature: 0.8, seed: kind },
      onTokens: ({ ids }) => {
        arrived(ids.length - seen);
        seen = ids.length;
      },
    });
  };
  const right = Array.from({ length: KINDS }, (_, kind) => open(kind));
  expect(await Promise.all(right.map(({ ended }) => ended))).toEqual(Array(KINDS).fill("length"));

  const actors = (await runtime.system.inspect())
    .map(({ name }) => name)
    .filter((name) => name !== "gateway");
  // A multiplicative generator: the same victims each time.
  let state = 20261125;
  const kills: Promise<void>[] = [];
  let received = 0;
  const killNow = (tokens: number) => {
    received += tokens;
    if (received < TOKENS_A_KILL * (kills.length + 1) || kills.length === KILLS) return;
    state = (state * 48271) % 0x7fffffff;
    kills.push(runtime.system.kill(actors[state % actors.length]!));
  };
  const rounds = Array.from({ length: KINDS }, async (_, kind) => {
    for (let round = 0; round < ROUNDS; round++) {
      const stream = open(kind, killNow);
      expect(await stream.ended).toBe("length");
      expect(stream.ids).toEqual(right[kind]!.ids);
    }
  });
  await Promise.all(rounds);
  await Promise.all(kills);

  expect(kills.length).toBe(KILLS);
  await until(() => runtime.service.snapshot().kv.usedBlocks === 0);
  expect(runtime.service.snapshot().requestsRunning).toBe(0);
});
