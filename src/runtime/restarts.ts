import type { RestartPolicy } from "./actor.js";

/** Ten restarts a minute, the first after 10 ms, then up to a second: a flaky actor lives, a broken one doesn't. */
export const DEFAULT_RESTARTS: RestartPolicy = {
  most: 10,
  withinMs: 60_000,
  delayMs: 10,
  mostDelayMs: 1_000,
};

/** Counts an actor's deaths against its policy. */
export class Restarts {
  private deaths: number[] = [];

  constructor(private readonly policy: RestartPolicy = DEFAULT_RESTARTS) {}

  /** How long to wait before starting the actor again; undefined when it has died too often. */
  died(now: number): number | undefined {
    this.deaths = this.deaths.filter((at) => now - at < this.policy.withinMs);
    if (this.deaths.length >= this.policy.most) return undefined;
    this.deaths.push(now);
    return Math.min(this.policy.delayMs * 2 ** (this.deaths.length - 1), this.policy.mostDelayMs);
  }
}
