import type { GenerationSummary } from "../gateway/generation.js";
import type { FaultKind } from "./plan.js";
import type { Outcome } from "./reader.js";
import type { Invariant } from "./violation.js";

/** What came of a plan: plain data. */
export interface RunResult {
  readonly name: string;
  readonly seed: number;
  readonly failure: RunFailure | undefined;
  readonly requests: readonly RequestResult[];
  /** Requests that were admitted before and submitted again by the gateway, each time counted. */
  readonly resumptions: number;
  readonly faults: Readonly<Partial<Record<FaultKind, number>>>;
  readonly events: number;
  /** Times that all invariants were checked. */
  readonly checks: number;
  readonly virtualMs: number;
  /** Longest time that a running request went without a token after an actor was killed. */
  readonly worstRecoveryMs: number;
  /** Equal hashes: equal runs. */
  readonly hash: string;
}

export interface RequestResult {
  readonly outcome: Outcome | undefined;
  readonly submittedAt: number;
  readonly endedAt: number;
  readonly received: number;
  readonly summary: GenerationSummary | undefined;
}

/** The first violation of a run. */
export interface RunFailure {
  readonly invariant: Invariant;
  readonly sentence: string;
  /** Number of the event after which it was seen. */
  readonly event: number;
  readonly atMs: number;
  /** The events up to it. */
  readonly tail: readonly string[];
}

/** The failure in full, as the command prints it. */
export function describeFailure(result: RunResult): string {
  const { failure } = result;
  if (!failure) return `${result.name}: all invariants hold`;
  return [
    ...failure.tail,
    `${result.name} (seed ${result.seed}), event ${failure.event} at ${failure.atMs.toFixed(3)} ms:`,
    `violated "${failure.invariant}": ${failure.sentence}`,
    `trace hash ${result.hash}`,
  ].join("\n");
}
