import type { LaneSnapshot, ServiceSnapshot } from "../gateway/generation.js";
import { DRAFTERS } from "../policy/drafting.js";
import type { SystemCounts } from "./gateway-options.js";
import type { MessageNamed } from "./messages.js";

type Load = MessageNamed<"load">;

/** Counts for /metrics: what the gateway sees itself, and what the lanes reported last. */
export class GatewayCounters {
  promptTokens = 0;
  outputTokens = 0;
  draftTokens = 0;
  acceptedTokens = 0;
  resumptions = 0;
  readonly #ended: Record<string, number> = {};
  readonly #loads = new Map<string, Load>();
  /** Of incarnations that are over. */
  #preemptions = 0;

  ended(how: string): void {
    this.#ended[how] = (this.#ended[how] ?? 0) + 1;
  }

  load(report: Load): void {
    const name = `${report.role === 0 ? "prefill" : "decode"}.${report.pair}`;
    const before = this.#loads.get(name);
    if (before && before.preemptions > report.preemptions) this.#preemptions += before.preemptions;
    this.#loads.set(name, report);
  }

  snapshot(running: number, waiting: number, system: SystemCounts): ServiceSnapshot {
    const lanes = [...this.#loads].sort(([a], [b]) => (a < b ? -1 : 1));
    let preemptions = this.#preemptions;
    for (const [, load] of lanes) preemptions += load.preemptions;
    return {
      requestsRunning: running,
      requestsWaiting: waiting,
      requestsEnded: { ...this.#ended },
      promptTokens: this.promptTokens,
      outputTokens: this.outputTokens,
      draftTokens: this.draftTokens,
      acceptedTokens: this.acceptedTokens,
      preemptions,
      resumptions: this.resumptions,
      deadLetters: system.deadLetters,
      actorRestarts: system.restarts,
      kv: system.kv,
      draftKv: system.draftKv,
      prefixTier: system.prefixTier,
      lanes: lanes.map(
        ([name, load]): LaneSnapshot => ({
          name,
          role: load.role === 0 ? "prefill" : "decode",
          rows: load.rows,
          queued: load.queued,
          keptRows: load.keptRows,
          promptTokens: load.queuedTokens,
          steps: load.steps,
          busyMs: load.busyMs,
          draftDepth: load.draftDepth,
          stepCostError: load.costError,
          drafters: DRAFTERS.map((name, i) => ({
            name,
            drafted: load.drafted[i] ?? 0,
            held: load.held[i] ?? 0,
          })),
          expectedTokens: load.expectedTokens,
          drawnTokens: load.drawnTokens,
        }),
      ),
    };
  }
}
