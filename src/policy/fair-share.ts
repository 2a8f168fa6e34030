/**
 * Shares out a machine between tenants by tokens served: a virtual token counter (Sheng et al., "Fairness in
 * Serving Large Language Models", arXiv 2401.00588). Each tenant has a counter of what it was given; of those who
 * wait, the least counter is served next. Whoever begins to wait is lifted to the least counter of those who wait
 * already, so that nobody saves up a claim by being idle. Of two tenants that both wait all the time neither gets
 * ahead of the other by more than the charge of one request. Pure: it has no clock.
 */

export interface FairShareLimits {
  /** Tenants remembered; those who wait are remembered beyond it. */
  readonly mostTenants: number;
  /** What an output token counts, in prompt tokens: it takes a step, a prompt token a part of one. */
  readonly outputWeight: number;
}

interface Account {
  /** Weighted tokens charged. */
  counter: number;
  /** True while a request of the tenant waits. */
  waits: boolean;
}

export class FairShare {
  readonly #accounts = new Map<number, Account>();
  /** Counter of whoever stopped waiting last: where the next begins when nobody waits. */
  #lastCounter = 0;

  constructor(readonly limits: FairShareLimits) {}

  /** Tenants with a counter. */
  get size(): number {
    return this.#accounts.size;
  }

  /** Weighted tokens of a request. */
  cost(promptTokens: number, outputTokens: number): number {
    return promptTokens + this.limits.outputWeight * outputTokens;
  }

  /** A tenant's counter; for one that does not wait, what it would be if it began to. */
  counter(tenant: number): number {
    const account = this.#accounts.get(tenant);
    return account?.waits ? account.counter : Math.max(account?.counter ?? 0, this.#level());
  }

  /** A tenant of which nothing waited has a request that waits. */
  begins(tenant: number): void {
    const counter = this.counter(tenant);
    // Set anew, so that the map is in order of last use.
    this.#accounts.delete(tenant);
    this.#accounts.set(tenant, { counter, waits: true });
    this.#forget();
  }

  /** Nothing of the tenant waits any more. */
  ceases(tenant: number): void {
    const account = this.#accounts.get(tenant);
    if (!account) return;
    account.waits = false;
    this.#lastCounter = account.counter;
  }

  /** Charges weighted tokens, or gives some back: what was served differs from what was expected. */
  charge(tenant: number, cost: number): void {
    const account = this.#accounts.get(tenant);
    if (account) account.counter += cost;
  }

  /** The least counter of those who wait. */
  #level(): number {
    let least = Number.POSITIVE_INFINITY;
    for (const { waits, counter } of this.#accounts.values()) if (waits) least = Math.min(least, counter);
    return Number.isFinite(least) ? least : this.#lastCounter;
  }

  /** Forgets the tenant that was idle longest: it begins at the others' level if it comes again. */
  #forget(): void {
    if (this.#accounts.size <= this.limits.mostTenants) return;
    for (const [tenant, { waits }] of this.#accounts) {
      if (waits) continue;
      this.#accounts.delete(tenant);
      return;
    }
  }
}
