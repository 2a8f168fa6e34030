import type { PlannedRequest, Topology } from "./plan.js";
import type { SimulatedReader } from "./reader.js";
import { Violation } from "./violation.js";

/** What an output token weighs: the configuration's default. */
const OUTPUT_WEIGHT = 2;

/**
 * Sees that tenants share: of two that both have interactive requests waiting, neither is admitted more than the
 * other by more than the requests that run at a time weigh.
 */
export class ShareCheck {
  readonly #waiting = new Map<string, number>();
  readonly #served = new Map<string, number>();
  /** What was served to one more than to the other when both began to wait, by pair. */
  readonly #base = new Map<string, number>();
  readonly #bound: number;

  /** Undefined where something else than shares may rightly decide: scarce blocks, full queues, faults. */
  static of(topology: Topology, requests: readonly PlannedRequest[], faults: number): ShareCheck | undefined {
    const longest = Math.max(0, ...requests.map(({ prompt, maxTokens }) => prompt.length + maxTokens));
    const blocks = Math.ceil(longest / topology.blockTokens) * topology.maxRunning;
    const scarce = blocks > topology.totalBlocks || requests.length > topology.maxWaiting;
    const tenants = new Set(requests.map(({ tenant }) => tenant ?? ""));
    if (faults > 0 || scarce || tenants.size < 2) return undefined;
    return new ShareCheck((topology.maxRunning + 2) * Math.max(...requests.map(weight)));
  }

  private constructor(bound: number) {
    this.#bound = bound;
  }

  /** A request begins to wait. */
  waits({ plan }: SimulatedReader): void {
    if (plan.class !== "interactive") return;
    const tenant = plan.tenant ?? "";
    const before = this.#waiting.get(tenant) ?? 0;
    this.#waiting.set(tenant, before + 1);
    if (before > 0) return;
    for (const other of this.#waiting.keys()) {
      this.#base.set(pairOf(tenant, other), this.#ahead(tenant, other));
    }
  }

  /** It waits no more; `admitted`: it is served. */
  ceases({ plan }: SimulatedReader, admitted: boolean): Violation | undefined {
    if (plan.class !== "interactive") return undefined;
    const tenant = plan.tenant ?? "";
    if (admitted) this.#served.set(tenant, (this.#served.get(tenant) ?? 0) + weight(plan));
    const wrong = admitted ? this.#wrong(tenant) : undefined;
    const left = (this.#waiting.get(tenant) ?? 1) - 1;
    if (left === 0) this.#waiting.delete(tenant);
    else this.#waiting.set(tenant, left);
    return wrong;
  }

  #wrong(tenant: string): Violation | undefined {
    for (const other of this.#waiting.keys()) {
      if (other === tenant) continue;
      const ahead = Math.abs(this.#ahead(tenant, other) - (this.#base.get(pairOf(tenant, other)) ?? 0));
      if (ahead > this.#bound) {
        const what = `tenant "${tenant}" got ${ahead} tokens more than "${other}", which waited`;
        return new Violation("share", `${what}: more than ${this.#bound}`);
      }
    }
    return undefined;
  }

  /** What the first of the two by name was served more than the second. */
  #ahead(a: string, b: string): number {
    const [first, second] = a < b ? [a, b] : [b, a];
    return (this.#served.get(first) ?? 0) - (this.#served.get(second) ?? 0);
  }
}

function pairOf(a: string, b: string): string {
  return a < b ? `${a}\n${b}` : `${b}\n${a}`;
}

function weight({ prompt, maxTokens }: Pick<PlannedRequest, "prompt" | "maxTokens">): number {
  return prompt.length + OUTPUT_WEIGHT * maxTokens;
}
