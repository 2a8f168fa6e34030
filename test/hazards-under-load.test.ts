import { afterAll, beforeAll, expect, test } from "vitest";
import { type ServingRuntime, startRuntime } from "../dist/actors/start.js";
import { configSchema } from "../dist/config/schema.js";
import { resolveModel } from "../dist/model/resolve.js";
import { openStream, promptOf, type Stream, until } from "./streams.js";

/**
 * What has taken down disaggregated systems in production, staged on the real engine under load; the simulator has the
 * same as scenarios. docs/decisions/simulation.md says which test has which hazard.
 */

const TOKENS = 24;
const KINDS = 12;
/** Blocks for about six requests of those below: what one gives back, another takes at once. */
const KV_TOKENS = 1536;

let runtime: ServingRuntime;
/** Each kind's tokens when nobody else is served, and those of a short prompt. */
let alone: readonly number[][];
let shortAlone: readonly number[][];

const snapshot = () => runtime.service.snapshot();

/** A request of several blocks, greedy or drawn. */
function open(kind: number, onTokens: (stream: Stream) => void = () => {}): Stream {
  return openStream(runtime.service, promptOf(kind, 100 + 9 * kind), {
    maxTokens: TOKENS,
    sampling: kind % 2 === 0 ? {} : { temperature: 0.8, seed: kind },
    onTokens,
  });
}

/** One of the many: little to compute, less than a block to cache. */
function openShort(kind: number): Stream {
  return openStream(runtime.service, promptOf(kind, 8 + kind), {
    maxTokens: 4,
    sampling: kind % 2 === 0 ? {} : { temperature: 0.8, seed: kind },
  });
}

async function expectNothingHeld(): Promise<void> {
  await until(() => snapshot().kv.usedBlocks === 0 && snapshot().kv.sequences === 0);
  expect(snapshot()).toMatchObject({ requestsRunning: 0, requestsWaiting: 0 });
}

beforeAll(async () => {
  const config = configSchema.parse({
    engine: { kvTokens: KV_TOKENS },
    // Nobody is refused for a long queue.
    scheduler: { interactive: { ttftMs: 0 } },
    runtime: { restarts: 100 },
  });
  runtime = await startRuntime(config, await resolveModel("smollm2-135m-instruct"));
  const oneByOne = async (openKind: (kind: number) => Stream) => {
    const answers: number[][] = [];
    for (let kind = 0; kind < KINDS; kind++) {
      const { ended, ids } = openKind(kind);
      expect(await ended).toBe("length");
      answers.push(ids);
    }
    return answers;
  };
  alone = await oneByOne(open);
  shortAlone = await oneByOne(openShort);
});

afterAll(() => runtime.stop());

test("an abort storm: those who stay get their tokens, and nothing is held by those who went", async () => {
  const STORM = 200;
  const staying = [0, 1, 2, 3].map((kind) => open(kind));
  // In the turn of the submission, when its first token has come, and while it waits or its prompt is computed.
  const storm = Array.from({ length: STORM }, (_, i) => {
    const stream = open(i % KINDS, ({ generation }) => generation.cancel());
    if (i % 3 === 0) stream.generation.cancel();
    return stream;
  });
  await until(() => staying.some(({ ids }) => ids.length > 0));
  for (const { generation } of storm) generation.cancel();
  expect(await Promise.all(storm.map(({ ended }) => ended))).toEqual(Array(STORM).fill("cancelled"));
  // As if there had been no storm, and within the two seconds that it may be felt for.
  const after = open(5);
  await until(() => after.ids.length > 0, 2000);
  expect(await after.ended).toBe("length");
  expect(after.ids).toEqual(alone[5]);
  for (const [kind, { ended, ids }] of staying.entries()) {
    expect(await ended).toBe("length");
    expect(ids).toEqual(alone[kind]);
  }
  await expectNothingHeld();
});

test("cancels between prefill and decode, blocks reused at once: neighbours get their tokens, no block is stranded", async () => {
  const ROUNDS = 8;
  let cancelled = 0;
  const rounds = Array.from({ length: KINDS }, async (_, kind) => {
    for (let round = 0; round < ROUNDS; round++) {
      const leaves = (kind + round) % 3 === 0;
      const stream = open(kind, ({ generation }) => leaves && generation.cancel());
      const end = await stream.ended;
      if (end === "cancelled") cancelled++;
      else expect(end).toBe("length");
      expect(leaves || end === "length").toBe(true);
      expect(stream.ids).toEqual(alone[kind]!.slice(0, stream.ids.length));
    }
  });
  await Promise.all(rounds);
  expect(cancelled).toBeGreaterThan(ROUNDS);
  await expectNothingHeld();
});

// A thousand prompts take their time on a busy machine.
test("the last of 1,000 end too, with the right tokens, though lanes die", { timeout: 180_000 }, async () => {
  const REQUESTS = 1000;
  const AT_ONCE = 64;
  const victims = ["decode.0", "prefill.0", "decode.0", "prefill.0"];
  const kills: Promise<void>[] = [];
  let sent = 0;
  let done = 0;
  const loop = async (): Promise<void> => {
    while (sent < REQUESTS) {
      const kind = sent++ % KINDS;
      const { ended, ids } = openShort(kind);
      expect(await ended).toBe("length");
      expect(ids).toEqual(shortAlone[kind]);
      done++;
      const due = ((kills.length + 1) * REQUESTS) / (victims.length + 1);
      if (done >= due && kills.length < victims.length)
        kills.push(runtime.system.kill(victims[kills.length]!));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, loop));
  await Promise.all(kills);
  expect(kills.length).toBe(victims.length);
  expect(done).toBe(REQUESTS);
  await expectNothingHeld();
});
