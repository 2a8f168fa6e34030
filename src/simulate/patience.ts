import { stepMs } from "../engine/simulated-cost.js";
import type { Plan } from "./plan.js";

/** Every request may be interrupted and begin again a few times. */
const AGAIN = 5;
/** Waiting that depends on no work: audits, retries, look-outs for credit, restarts. */
const MARGIN_MS = 60_000;

/**
 * Virtual time, in milliseconds, within which all requests of a plan must have ended: as if they were served
 * one after another, token by token, on the slowest lane, several times over, each by its own slow reader.
 * Generous, because it only has to tell "late" from "never".
 */
export function patienceMs({ topology, requests, faults }: Plan): number {
  const slowest = faults.reduce(
    (factor, fault) => (fault.kind === "slow" ? factor * fault.factor : factor),
    1,
  );
  const token =
    stepMs(topology.cost, 1, 1, topology.contextTokens) * (1 + topology.stepNoise) * Math.min(slowest, 20);
  let total = MARGIN_MS;
  for (const { atMs, prompt, maxTokens, reader } of requests) {
    total += atMs + AGAIN * token * (prompt.length + maxTokens);
    if (reader.grant > 0) total += (Math.ceil(maxTokens / reader.grant) + 1) * reader.everyMs;
  }
  return total;
}
