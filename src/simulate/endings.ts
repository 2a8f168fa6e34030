import type { Plan, Topology } from "./plan.js";
import type { SimulatedReader } from "./reader.js";

/** Timers may fire a rounding error early. */
const TIMER_MS = 1;

/** Why a request's end is none that its plan allows, as a sentence; undefined when it is in order. */
export function wrongEnding(reader: SimulatedReader, plan: Plan): string | undefined {
  const { outcome, number } = reader;
  if (outcome === undefined || outcome === "done" || allowed(outcome, reader, plan)) return undefined;
  const details = reader.failure ? `: ${reader.failure.message}` : "";
  return `request ${number} ended with ${outcome} after ${reader.received} tokens${details}`;
}

function allowed(outcome: string, reader: SimulatedReader, plan: Plan): boolean {
  const request = reader.plan;
  const { topology } = plan;
  switch (outcome) {
    case "cancelled":
      return reader.cancelled;
    case "deadline_exceeded": {
      // Before a token it may be a refusal: the deadline can't hold.
      const passed = reader.endedAt - reader.submittedAt >= request.deadlineMs - TIMER_MS;
      return request.deadlineMs > 0 && (passed || reader.received === 0);
    }
    case "rate_limited":
    case "overloaded":
      return reader.received === 0;
    case "kv_exhausted":
      return blocksOf(request.prompt.length + request.maxTokens, topology) > topology.totalBlocks;
    case "prompt_too_long":
      return request.prompt.length + request.maxTokens > topology.contextTokens;
    case "empty_prompt":
      return request.prompt.length === 0;
    case "lane_failed":
      return plan.faults.some((fault) => fault.kind === "step-fails");
    case "slow_reader":
      // Whoever grants credit now and then is slow, but not stalled.
      return Number.isFinite(request.reader.credit) && request.reader.grant === 0;
    default:
      return false;
  }
}

function blocksOf(tokens: number, topology: Topology): number {
  return Math.ceil(tokens / topology.blockTokens);
}
