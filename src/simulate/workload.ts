import { GREEDY, type Sampling } from "../engine/engine.js";
import { EAGER, type PlannedRequest, type Reader, type Topology, type Trigger } from "./plan.js";
import type { Random } from "./random.js";

const STAGES = ["submit", "route", "handoff", "tokens", "admitted", "routed"];

/** Requests over `spanMs`, 3 to 40 unless told how many: their arrivals, sizes, readers, deadlines and cancellations. */
export function randomRequests(
  random: Random,
  topology: Topology,
  spanMs: number,
  asked?: number,
): PlannedRequest[] {
  const drawn = random.skewed(3, 40);
  const count = asked ?? drawn;
  const arrivals = random.pick(["poisson", "bursts", "closed", "flood"] as const);
  const users = random.between(1, 6);
  const prefixes = Array.from({ length: 3 }, () =>
    tokensOf(random, topology, random.skewed(8, topology.contextTokens / 2)),
  );
  const cancels = random.pick([0, 0.1, 0.5]);
  const deadlines = random.pick([0, 0, 0.3]);
  let at = 0;
  return Array.from({ length: count }, (_, number): PlannedRequest => {
    if (arrivals === "poisson") at += random.exponential(spanMs / count);
    if (arrivals === "bursts" && random.chance(0.2)) at += random.exponential(spanMs / 8);
    if (arrivals === "closed") at = random.exponential(20);
    const after = arrivals === "closed" && number >= users ? { after: number - users } : {};
    const sizes = sizesOf(random, topology, prefixes);
    return {
      atMs: at,
      ...after,
      ...sizes,
      sampling: samplingOf(random, number, topology.model.vocabulary),
      class: random.chance(0.25) ? "offline" : "interactive",
      deadlineMs: random.chance(deadlines) ? random.skewed(20, 5_000) : 0,
      reader: readerOf(random),
      ...(random.chance(0.1) ? { stopAfter: random.between(1, 12) } : {}),
      ...(random.chance(cancels) ? { cancel: cancelOf(random, sizes.maxTokens) } : {}),
    };
  });
}

function tokensOf(random: Random, topology: Topology, length: number): number[] {
  return Array.from({ length: Math.floor(length) }, () => random.between(0, topology.model.vocabulary - 1));
}

/** A prompt, now and then behind a shared prefix, and an output that fits the context with it. */
function sizesOf(
  random: Random,
  topology: Topology,
  prefixes: readonly (readonly number[])[],
): { prompt: readonly number[]; maxTokens: number } {
  const context = topology.contextTokens;
  const prefix = random.chance(0.5) ? random.pick(prefixes) : [];
  const tail = tokensOf(random, topology, random.skewed(1, context / 2 - 1));
  const prompt = [...prefix, ...tail].slice(0, context - 1);
  return { prompt, maxTokens: random.skewed(1, Math.min(96, context - prompt.length)) };
}

function samplingOf(random: Random, number: number, vocabulary: number): Sampling {
  const stops = Array.from({ length: random.pick([0, 1, 4]) }, () => random.between(0, vocabulary - 1));
  return {
    ...GREEDY,
    temperature: random.pick([0, 0.7, 1]),
    topP: random.pick([1, 0.9]),
    presencePenalty: random.pick([0, 0.5]),
    seed: number + 1,
    stopIds: stops,
    minTokens: random.chance(0.3) ? random.between(1, 20) : 0,
    logitBias: random.chance(0.2) ? new Map([[random.between(0, vocabulary - 1), 1.5]]) : new Map(),
    logprobs: random.pick([-1, -1, 0, 2]),
  };
}

function readerOf(random: Random): Reader {
  if (random.chance(0.7)) return EAGER;
  return { credit: random.between(0, 8), grant: random.between(1, 16), everyMs: random.skewed(1, 400) };
}

function cancelOf(random: Random, maxTokens: number): Trigger {
  if (random.chance(0.3)) return { kind: "time", atMs: random.skewed(1, 2_000) - 1 };
  if (random.chance(0.3)) return { kind: "tokens", count: random.between(0, maxTokens) };
  return { kind: "message", type: random.pick(STAGES), nth: random.pick([1, 1, 1, 2, 5]) };
}
