import type { Audited } from "./audit.js";
import { ANY_PAIR, type Journey } from "./messages.js";

/** A request that has been admitted, and the KV blocks reserved for it. */
export interface Running extends Audited {
  readonly journey: Journey;
  readonly offline: boolean;
  /** KV blocks reserved; more when it turns out longer than predicted. */
  blocks: number;
  /** Weighted tokens that its tenant was charged. */
  readonly cost: number;
  /** When it was admitted, in milliseconds. */
  readonly since: number;
  /** When it came, and what was predicted then: milliseconds to the first token, and per token after it. */
  readonly prediction: Prediction;
  /** Its first token has been drawn. */
  begun: boolean;
  /** Reason of a cancel that has been passed on. */
  cancelled: number | undefined;
}

export interface Prediction {
  readonly at: number;
  readonly firstTokenMs: number;
  readonly tokenMs: number;
}

export interface Admitted {
  readonly journey: Journey;
  readonly offline: boolean;
  readonly blocks: number;
  readonly cost: number;
  readonly prediction: Prediction;
}

/** The requests in lanes. What is reserved is exactly the sum over them. */
export class Reservations {
  readonly running = new Map<number, Running>();
  #blocks = 0;
  #offline = 0;
  #offlineBlocks = 0;

  constructor(readonly totalBlocks: number) {}

  /** Blocks that nobody reserved; negative when running requests turned out longer than predicted. */
  get freeBlocks(): number {
    return this.totalBlocks - this.#blocks;
  }

  get blocks(): number {
    return this.#blocks;
  }

  /** Of the reserved blocks those of offline requests. */
  get offlineBlocks(): number {
    return this.#offlineBlocks;
  }

  /** Running requests of a class. */
  count(offline: boolean): number {
    return offline ? this.#offline : this.running.size - this.#offline;
  }

  /** `auditFrom`: serial of the next audit. */
  add({ journey, offline, blocks, cost, prediction }: Admitted, since: number, auditFrom: number): Running {
    const running: Running = {
      request: journey.request,
      attempt: journey.attempt,
      journey,
      offline,
      blocks,
      cost,
      since,
      prediction,
      begun: false,
      pair: ANY_PAIR,
      cancelled: undefined,
      auditFrom,
      seenIn: 0,
      missedIn: 0,
    };
    this.#blocks += blocks;
    if (offline) {
      this.#offline++;
      this.#offlineBlocks += blocks;
    }
    this.running.set(running.request, running);
    return running;
  }

  /** Reserves up to `blocks` for a running request; never fewer than it has. */
  grow(running: Running, blocks: number): void {
    if (this.running.get(running.request) !== running || blocks <= running.blocks) return;
    this.#blocks += blocks - running.blocks;
    if (running.offline) this.#offlineBlocks += blocks - running.blocks;
    running.blocks = blocks;
  }

  /** Gives a request's blocks back, once; false if that was done before. */
  release(running: Running): boolean {
    if (this.running.get(running.request) !== running) return false;
    this.running.delete(running.request);
    this.#blocks -= running.blocks;
    if (running.offline) {
      this.#offline--;
      this.#offlineBlocks -= running.blocks;
    }
    return true;
  }
}
