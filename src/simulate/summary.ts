import type { RunResult } from "./run-result.js";
import { INVARIANTS } from "./violation.js";

/** Adds up what came of many runs. */
export class Summary {
  runs = 0;
  readonly failures: RunResult[] = [];
  #events = 0;
  #checks = 0;
  #virtualMs = 0;
  #tokens = 0;
  #draftTokens = 0;
  #acceptedTokens = 0;
  #worst = { ms: 0, name: "" };
  readonly #outcomes = new Map<string, number>();
  readonly #faults = new Map<string, number>();

  add(result: RunResult): void {
    this.runs++;
    if (result.failure) this.failures.push(result);
    this.#events += result.events;
    this.#checks += result.checks;
    this.#virtualMs += result.virtualMs;
    if (result.worstRecoveryMs > this.#worst.ms)
      this.#worst = { ms: result.worstRecoveryMs, name: result.name };
    for (const { outcome, received, summary } of result.requests) {
      count(this.#outcomes, outcome ?? "not ended", 1);
      this.#tokens += received;
      this.#draftTokens += summary?.draftTokens ?? 0;
      this.#acceptedTokens += summary?.acceptedTokens ?? 0;
    }
    for (const [kind, times] of Object.entries(result.faults)) count(this.#faults, kind, times);
  }

  lines(): string[] {
    const seconds = (this.#virtualMs / 1000).toFixed(0);
    const acceptance = ((100 * this.#acceptedTokens) / Math.max(1, this.#draftTokens)).toFixed(0);
    const invariants = Object.keys(INVARIANTS).length - 1;
    return [
      `runs        ${this.runs}, ${this.failures.length} of them with a violation`,
      `virtual     ${seconds} s, ${this.#events} turns of actors`,
      `requests    ${list(this.#outcomes)}`,
      `tokens      ${this.#tokens} delivered and compared; ${acceptance}% of ${this.#draftTokens} drafts accepted`,
      `faults      ${list(this.#faults) || "none"}`,
      `invariants  ${invariants}, checked ${this.#checks} times`,
      `recovery    ${this.#worst.ms.toFixed(0)} ms at worst without a token after a death${this.#worst.name && ` (${this.#worst.name})`}`,
    ];
  }
}

function count(counts: Map<string, number>, key: string, by: number): void {
  counts.set(key, (counts.get(key) ?? 0) + by);
}

function list(counts: ReadonlyMap<string, number>): string {
  return [...counts]
    .sort(([, a], [, b]) => b - a)
    .map(([key, times]) => `${times} ${key}`)
    .join(", ");
}
