import type { SimulatedPool } from "../engine/simulated-pool.js";
import type { Simulation } from "../runtime/simulation/simulation.js";
import type { Topology } from "./plan.js";

/** Counts of each actor's `inspect` that must be 0 when no request is left. */
const NOTHING: Readonly<Record<string, readonly string[]>> = {
  gateway: ["live", "outbox"],
  scheduler: ["waiting", "running", "reservedBlocks"],
  prefill: ["prompts", "kept"],
  decode: ["rows"],
};

/** What is still held for requests although all have ended, as a sentence; undefined when nothing is. */
export function quietAtLast(sim: Simulation, pool: SimulatedPool, topology: Topology): string | undefined {
  const { usedBlocks, sequences } = pool.counts();
  if (usedBlocks > 0 || sequences > 0)
    return `${usedBlocks} KV blocks in ${sequences} sequences are still held`;
  const lanes = Array.from({ length: topology.pairs }, (_, pair) => [`prefill.${pair}`, `decode.${pair}`]);
  for (const name of ["gateway", "scheduler", ...lanes.flat()]) {
    const state = sim.behaviour(name)?.inspect?.();
    if (state === undefined) return `${name} is not there`;
    for (const count of NOTHING[name.split(".")[0] as string] ?? []) {
      if (state[count] !== 0) return `${name} still counts ${String(state[count])} of "${count}"`;
    }
  }
  const slab = sim.slabs.ownedBy("gateway");
  const free = slab.freeBytes;
  slab.freeAll();
  return slab.freeBytes === free
    ? undefined
    : `${slab.freeBytes - free} bytes of the prompt slab are still taken`;
}
