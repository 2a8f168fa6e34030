import type { GenerationSummary } from "../../gateway/generation.js";
import type { RequestOutcome, ServingRequest } from "./serving.js";

/** What a reader waited for after its first token. */
export class Silence {
  /** The longest wait so far, in milliseconds; NaN before there was one. */
  longestMs = Number.NaN;
  #heardAt = Number.NaN;

  /** Tokens came at `now`, in milliseconds. The first ones end no silence. */
  heard(now: number): void {
    if (Number.isFinite(this.#heardAt)) {
      this.longestMs = Math.max(now - this.#heardAt, this.longestMs || 0);
    }
    this.#heardAt = now;
  }
}

/**
 * What became of a request that came at `atMs`. `summary`: the gateway's, where it was served. `stillMs`: its reader's
 * longest silence. `endedMs`: how long it took to end where it was not served.
 */
export function outcomeOf(
  { atMs, set = "" }: Pick<ServingRequest, "atMs" | "set">,
  outcome: string,
  summary: GenerationSummary | undefined,
  stillMs: number,
  endedMs: number,
): RequestOutcome {
  const { queuedMs = Number.NaN, firstTokenMs: ttftMs = Number.NaN } = summary?.timings ?? {};
  const totalMs = summary?.timings.totalMs ?? endedMs;
  const outputTokens = summary?.outputTokens ?? 0;
  return {
    atMs,
    set,
    outcome,
    promptTokens: summary?.promptTokens ?? 0,
    cachedTokens: summary?.cachedTokens ?? 0,
    outputTokens,
    queuedMs,
    ttftMs,
    totalMs,
    tpotMs: outputTokens > 1 ? (totalMs - ttftMs) / (outputTokens - 1) : Number.NaN,
    stillMs,
    draftTokens: summary?.draftTokens ?? 0,
    acceptedTokens: summary?.acceptedTokens ?? 0,
  };
}
