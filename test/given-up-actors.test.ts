import { describe, expect, it } from "vitest";
import { configSchema } from "../dist/config/schema.js";
import { GREEDY } from "../dist/engine/engine.js";
import { PROVISIONAL_CPU } from "../dist/engine/simulated-cost.js";
import type { Generation } from "../dist/gateway/generation.js";
import { House } from "../dist/simulate/house.js";

/** The real actors under the virtual clock, one of which dies so often that it is given up. */

const MODEL = { seed: 5, vocabulary: 64, draftability: 0.5 };
const STREAMS = 8;

interface Stream {
  readonly generation: Generation;
  readonly ids: number[];
  end: string | undefined;
}

function houseOf(pairs: number): { house: House; given: string[] } {
  const given: string[] = [];
  const house = new House({
    config: configSchema.parse({ pairs, engine: { kvTokens: 8192 }, runtime: { restarts: 1 } }),
    model: MODEL,
    cost: PROVISIONAL_CPU,
    contextTokens: 512,
    simulation: { seed: 3, failed: (name) => given.push(name) },
  });
  house.simulation.run({ untilMs: 1 });
  return { house, given };
}

function open(house: House, seed: number, maxTokens = 200): Stream {
  const stream: { ids: number[]; end: string | undefined } = { ids: [], end: undefined };
  const request = {
    prompt: Uint32Array.from({ length: 20 }, (_, i) => (i * 7 + seed) % MODEL.vocabulary),
    maxTokens,
    sampling: { ...GREEDY, seed },
    class: "interactive",
    deadlineMs: 0,
    credit: Number.POSITIVE_INFINITY,
  } as const;
  const generation = house.gateway.generate(request, {
    tokens: ({ ids }) => stream.ids.push(...ids),
    done: ({ finish }) => {
      stream.end = finish;
    },
    failed: ({ code }) => {
      stream.end = code;
    },
  });
  return Object.assign(stream, { generation });
}

function openAll(house: House): Stream[] {
  return Array.from({ length: STREAMS }, (_, seed) => open(house, seed + 1));
}

/** Runs until `done()`, a minute of virtual time at most. */
function runUntil({ simulation }: House, done: () => boolean): void {
  const limit = simulation.now + 60_000;
  while (!done() && simulation.now < limit && simulation.step());
  expect(done()).toBe(true);
}

/** Kills an actor until its supervisor starts it no more. */
function giveUp(house: House, given: string[], actor: string): void {
  for (let deaths = 0; deaths < 2; deaths++) {
    runUntil(house, () => house.simulation.behaviour(actor) !== undefined);
    house.simulation.kill(actor);
  }
  runUntil(house, () => given.includes(actor));
}

const flowing = (streams: readonly Stream[]) => streams.every(({ ids }) => ids.length > 4);
const ended = (streams: readonly Stream[]) => streams.every(({ end }) => end !== undefined);

describe("an actor is given up", () => {
  it("a prefill lane: what its decode lane holds goes on, even when that lane then dies", () => {
    const calm = houseOf(2).house;
    const undisturbed = openAll(calm);
    runUntil(calm, () => ended(undisturbed));

    const { house, given } = houseOf(2);
    const streams = openAll(house);
    runUntil(house, () => flowing(streams));
    giveUp(house, given, "prefill.0");
    house.simulation.kill("decode.0");
    runUntil(house, () => ended(streams));

    expect(streams.map(({ end }) => end)).toEqual(Array(STREAMS).fill("length"));
    expect(streams.map(({ ids }) => ids)).toEqual(undisturbed.map(({ ids }) => ids));
    expect(house.engine.pool.counts().usedBlocks).toBe(0);
  });

  it("a prefill lane: a cancel still reaches its decode lane", () => {
    const { house, given } = houseOf(2);
    const streams = openAll(house);
    runUntil(house, () => flowing(streams));
    giveUp(house, given, "prefill.0");
    for (const { generation } of streams) generation.cancel();
    // A few decode steps, and far less than the gateway's patience with a lane that says nothing.
    house.simulation.run({ untilMs: house.simulation.now + 100 });
    expect(streams.map(({ end }) => end)).toEqual(Array(STREAMS).fill("cancelled"));
    expect(house.engine.pool.counts().usedBlocks).toBe(0);
  });

  it("the router: every request ends, and new ones are told", () => {
    const { house, given } = houseOf(2);
    const streams = openAll(house);
    runUntil(house, () => flowing(streams));
    giveUp(house, given, "router");
    runUntil(house, () => ended(streams));
    expect(streams.map(({ end }) => end)).toEqual(Array(STREAMS).fill("lane_failed"));

    const late = open(house, 99);
    runUntil(house, () => ended([late]));
    expect(late.end).toBe("lane_failed");
  });

  it("the scheduler: every request ends, and nobody goes on trying to reach it", () => {
    const { house, given } = houseOf(2);
    const streams = openAll(house);
    runUntil(house, () => flowing(streams));
    giveUp(house, given, "scheduler");
    runUntil(house, () => ended(streams));
    expect(streams.map(({ end }) => end)).toEqual(Array(STREAMS).fill("internal"));
    expect(open(house, 99).end).toBe("draining");

    house.simulation.run({ untilMs: house.simulation.now + 10_000 });
    expect(house.engine.pool.counts().usedBlocks).toBe(0);
    const letters = house.simulation.deadLetters;
    house.simulation.run({ untilMs: house.simulation.now + 10_000 });
    expect(house.simulation.deadLetters).toBe(letters);
  });

  it("a decode lane: the other pair takes over, and no block is left behind", () => {
    const { house, given } = houseOf(2);
    const streams = openAll(house);
    giveUp(house, given, "decode.1");
    runUntil(house, () => ended(streams));
    expect(streams.map(({ end }) => end)).toEqual(Array(STREAMS).fill("length"));
    expect(house.engine.pool.counts().usedBlocks).toBe(0);
  });
});

describe("a reader that has enough as it grants", () => {
  it("gets one ending, which is counted once", () => {
    const { house } = houseOf(1);
    let dones = 0;
    const request = {
      prompt: Uint32Array.of(1, 2, 3),
      maxTokens: 1,
      sampling: GREEDY,
      class: "interactive",
      deadlineMs: 0,
      credit: 0,
    } as const;
    const generation = house.gateway.generate(request, {
      tokens: () => generation.stop(),
      done: () => dones++,
      failed: () => expect.unreachable(),
    });
    // The only token is drawn and held: nothing else is under way.
    house.simulation.run({ untilMs: 1_000 });
    expect(dones).toBe(0);
    generation.grant(1);
    house.simulation.run({ untilMs: 2_000 });
    expect(dones).toBe(1);
    expect(house.gateway.snapshot().requestsEnded).toEqual({ stop: 1 });
  });
});
