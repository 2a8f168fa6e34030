/** What a class of requests is promised; 0: nothing. */
export interface Objectives {
  /** Milliseconds to the first token, and per output token after it. */
  readonly ttftMs: number;
  readonly tpotMs: number;
}

/** Time of a step with so many new tokens of one sequence, on a machine that does nothing else. */
export interface TimedStep {
  readonly tokens: number;
  readonly ms: number;
}

/**
 * Why a machine can't keep an objective even for one request alone, as the end of a sentence that begins with its
 * name; undefined when it can, or when nothing was timed. `prefill`, `decode`: timed steps; `mostDrafts`: drafts a
 * step, so that a step may give one token more than that.
 */
export function impossibleObjective(
  { ttftMs, tpotMs }: Objectives,
  steps: { readonly prefill: readonly TimedStep[]; readonly decode: readonly TimedStep[] },
  mostDrafts: number,
): { readonly key: "ttftMs" | "tpotMs"; readonly why: string } | undefined {
  const first = leastOf(steps.prefill.map(({ ms }) => ms));
  if (ttftMs > 0 && ttftMs < first) {
    const why = `the shortest prompt takes ${first.toFixed(1)} ms on this machine, and ${ttftMs} ms are allowed`;
    return { key: "ttftMs", why };
  }
  const each = leastOf(
    steps.decode.filter(({ tokens }) => tokens <= mostDrafts + 1).map(({ tokens, ms }) => ms / tokens),
  );
  if (tpotMs > 0 && tpotMs < each) {
    const drafts = mostDrafts > 0 ? ", every draft accepted" : "";
    const why = `a token takes ${each.toFixed(1)} ms on this machine with one request alone${drafts}, and ${tpotMs} ms are allowed`;
    return { key: "tpotMs", why };
  }
  return undefined;
}

/** NaN, which nothing is less than, when there are none. */
function leastOf(values: readonly number[]): number {
  return values.length === 0 ? Number.NaN : Math.min(...values);
}
