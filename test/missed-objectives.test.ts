import { expect, test } from "vitest";
import { PROVISIONAL_CPU } from "../dist/engine/simulated-cost.js";
import { House } from "../dist/simulate/house.js";
import { TOPOLOGY } from "../dist/simulate/scenario.js";
import { configOf } from "../dist/simulate/topology-config.js";
import { openStream, promptOf, type Stream } from "./streams.js";

/** Requests at once; some readers take a token now and then. Returns what the router was told of them. */
function missed(objectives: { ttftMs?: number; tpotMs?: number }, eager: number, slow: number) {
  const house = new House({
    config: configOf({ ...TOPOLOGY, scheduler: { interactive: { ttftMs: 0, tpotMs: 0, ...objectives } } }),
    model: TOPOLOGY.model,
    cost: PROVISIONAL_CPU,
    contextTokens: TOPOLOGY.contextTokens,
    simulation: { seed: 3, roundTrip: true },
  });
  const { simulation, gateway } = house;
  const streams: Stream[] = [];
  simulation.at(1, () => {
    for (let i = 0; i < eager + slow; i++) {
      const prompt = promptOf(i, 8).map((id) => id % TOPOLOGY.model.vocabulary);
      const credit = i < eager ? Number.POSITIVE_INFINITY : 4;
      streams.push(openStream(gateway, prompt, { maxTokens: 24, credit }));
    }
  });
  for (let ms = 500; ms < 5000; ms += 200) {
    simulation.at(ms, () => {
      for (const { generation } of streams.slice(eager)) generation.grant(4);
    });
  }
  for (let i = 0; i < 200_000 && !(streams.length > 0 && streams.every(({ ids }) => ids.length === 24)); i++)
    simulation.step();
  expect(streams.map(({ ids }) => ids.length)).toEqual(Array.from({ length: eager + slow }, () => 24));
  // The last word is on its way to the router.
  for (let i = 0; i < 1000; i++) simulation.step();
  const { missedFirst, missedTokens } = simulation.behaviour("router")?.inspect?.() ?? {};
  return { missedFirst, missedTokens };
}

test("the router hears who missed what was promised; what waited for its reader says nothing", () => {
  expect(missed({ tpotMs: 0.01 }, 6, 0)).toEqual({ missedFirst: 0, missedTokens: 6 });
  expect(missed({ tpotMs: 0.01 }, 4, 3)).toEqual({ missedFirst: 0, missedTokens: 4 });
  expect(missed({ tpotMs: 1e6 }, 6, 0)).toEqual({ missedFirst: 0, missedTokens: 0 });
  // Nobody is refused before anything was measured.
  expect(missed({ ttftMs: 1 }, 3, 0)).toEqual({ missedFirst: 3, missedTokens: 0 });
  expect(missed({}, 3, 0)).toEqual({ missedFirst: 0, missedTokens: 0 });
});
