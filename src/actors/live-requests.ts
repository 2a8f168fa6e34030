import type { LiveRequest } from "./live-request.js";

/** The requests that have not ended. */
export class LiveRequests {
  readonly #byId = new Map<number, LiveRequest>();

  get size(): number {
    return this.#byId.size;
  }

  /** How many have not been admitted yet. */
  get waiting(): number {
    let waiting = 0;
    for (const live of this.#byId.values()) if (live.admittedAt === undefined) waiting++;
    return waiting;
  }

  add(live: LiveRequest): void {
    this.#byId.set(live.id, live);
  }

  remove(live: LiveRequest): void {
    this.#byId.delete(live.id);
  }

  has(live: LiveRequest): boolean {
    return this.#byId.get(live.id) === live;
  }

  get(id: number): LiveRequest | undefined {
    return this.#byId.get(id);
  }

  /** The request that a message is about, unless it is about an earlier attempt. */
  of(message: { readonly request: number; readonly attempt: number }): LiveRequest | undefined {
    const live = this.#byId.get(message.request);
    return live?.attempt === message.attempt ? live : undefined;
  }

  /** All of them now: any may end while they are gone through. */
  all(): readonly LiveRequest[] {
    return [...this.#byId.values()];
  }
}
