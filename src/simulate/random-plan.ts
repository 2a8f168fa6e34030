import { PROVISIONAL_CPU } from "../engine/simulated-cost.js";
import {
  decodeLane,
  type Fault,
  type FaultKind,
  type Plan,
  type PlannedRequest,
  prefillLane,
  type RouterSettings,
  type SchedulerSettings,
  type Topology,
  type Trigger,
} from "./plan.js";
import { Random } from "./random.js";
import { randomRequests } from "./workload.js";

/** Longest virtual time over which requests arrive and faults begin, in milliseconds. */
const SPAN_MS = 4_000;

/** Requests that `SPAN_MS` is meant for, at most. */
const USUAL_REQUESTS = 40;

/**
 * The plan of a seed: a random system under a random load with random faults. `count`: so many requests, over as much
 * longer a time, and at least one fault of each kind; else 3 to 40, and in a third of all runs no fault.
 */
export function planOf(seed: number, count?: number): Plan {
  const random = new Random(seed);
  const spanMs = SPAN_MS * Math.max(1, (count ?? 0) / USUAL_REQUESTS);
  const topology = randomTopology(random.fork());
  const requests = randomRequests(random.fork(), topology, spanMs, count);
  const source = random.fork();
  const faults =
    count === undefined
      ? randomFaults(source, topology)
      : [...faultsOfEveryKind(source, topology, spanMs), ...randomFaults(source, topology)];
  const more = random.fork();
  const router = randomRouter(random.fork());
  return {
    name: `seed ${seed}`,
    seed,
    topology: { ...topology, scheduler: randomScheduler(more), router },
    requests: randomTenants(more, requests),
    faults,
  };
}

/** From reservations that always suffice to ones that hardly do, from patience without end to hardly any. */
function randomScheduler(random: Random): SchedulerSettings {
  return {
    lengthShare: random.pick([0.9, 0.5, 0.2]),
    lengthMemory: random.pick([4, 64]),
    offlinePatienceMs: random.pick([300, 60_000, 60_000]),
    interactive: { ttftMs: random.pick([0, 500, 30_000]), tpotMs: random.pick([0, 0, 20]) },
  };
}

/** From lanes that keep to their roles to ones that do each other's work at the slightest cause. */
function randomRouter(random: Random): RouterSettings {
  return {
    roles: random.pick(["auto", "auto", "auto", "static"]),
    lendPressure: random.pick([1, 1.2, 2]),
    lendSteps: random.pick([0.1, 0.5, 3]),
  };
}

function randomTenants(random: Random, requests: readonly PlannedRequest[]): PlannedRequest[] {
  const names = random.pick([[""], ["", "a"], ["a", "a", "a", "b", "c"]]);
  return requests.map((request) => ({ ...request, tenant: random.pick(names) }));
}

function randomTopology(random: Random): Topology {
  const blockTokens = random.pick([16, 32] as const);
  const contextTokens = random.pick([128, 256, 512]);
  // From a pool that one long request fills to one that never runs short.
  const most = Math.ceil(contextTokens / blockTokens);
  return {
    pairs: random.pick([1, 1, 2, 2, 3]),
    model: {
      seed: random.word(),
      // The smaller, the more often a suffix comes again for the drafter to find.
      vocabulary: random.pick([24, 64, 512]),
      draftability: random.pick([0, 0.4, 0.7, 0.9]),
    },
    cost: PROVISIONAL_CPU,
    contextTokens,
    blockTokens,
    totalBlocks: most + random.skewed(1, most * 12),
    prefill: { maxRows: random.between(1, 16), maxBatchTokens: random.pick([17, 64, 256]) },
    decode: { maxRows: random.between(1, 32), maxBatchTokens: random.pick([40, 128, 256]) },
    maxWaiting: random.pick([4, 64, 1024]),
    maxRunning: random.pick([2, 16, 256]),
    maxDepth: random.pick([0, 2, 8]),
    ringBytes: random.pick([1 << 14, 1 << 16, 1 << 18]),
    promptSlabBytes: random.pick([1 << 16, 1 << 20]),
    stepNoise: random.pick([0, 0.1, 0.5]),
  };
}

/** Names of the actors of a topology that run on threads of their own. */
export function actorNames(topology: Topology): string[] {
  const names = ["scheduler", "router", "tuner"];
  for (let pair = 0; pair < topology.pairs; pair++) names.push(prefillLane(pair), decodeLane(pair));
  return names;
}

const MESSAGES = ["submit", "route", "handoff", "tokens", "ended", "cancel", "load"];

function randomTrigger(random: Random, spanMs: number): Trigger {
  if (random.chance(0.5)) return { kind: "time", atMs: random.unit() * spanMs };
  return { kind: "message", type: random.pick(MESSAGES), nth: random.skewed(1, 20) };
}

/** A third of all runs has no faults, so that what faults forgive is checked strictly too. */
function randomFaults(random: Random, topology: Topology): Fault[] {
  if (random.chance(0.33)) return [];
  const actors = actorNames(topology);
  const lanes = actors.filter((name) => name.includes("."));
  return Array.from({ length: random.skewed(1, 6) }, () => {
    const [actor, lane] = [random.pick(actors), random.pick(lanes)];
    return randomFault(random, actor, lane, SPAN_MS);
  });
}

const KINDS = ["kill", "pause", "slow", "step-fails", "full"] as const;

function faultsOfEveryKind(random: Random, topology: Topology, spanMs: number): Fault[] {
  const actors = actorNames(topology);
  const lanes = actors.filter((name) => name.includes("."));
  return KINDS.map((kind) => randomFault(random, random.pick(actors), random.pick(lanes), spanMs, kind));
}

function randomFault(random: Random, actor: string, lane: string, spanMs: number, asked?: FaultKind): Fault {
  const when = randomTrigger(random, spanMs);
  const kind = asked ?? random.pick(["kill", "kill", "pause", "slow", "step-fails", "full"] as const);
  if (kind === "kill") return { kind, actor, when };
  if (kind === "pause" || kind === "full") return { kind, actor, when, forMs: random.skewed(1, 1_000) };
  if (kind === "step-fails") return { kind, actor: lane, nth: random.skewed(1, 40) };
  const factor = random.pick([2, 5, 20]);
  return { kind, actor: lane, atMs: random.unit() * spanMs, forMs: random.skewed(50, 2_000), factor };
}
