import { FairShare, type FairShareLimits } from "./fair-share.js";

/**
 * Who is admitted next. Two classes: interactive requests come first, offline ones fill what is spare. Within a
 * class tenants share by tokens (fair-share.ts), and a tenant's requests come first in, first out. A request that
 * fits may pass one before it that does not, but only until that one has waited `passMs`; then everyone behind
 * waits for it, so that big requests do not starve. Pure: time is an argument.
 */

export interface Waiting {
  readonly request: number;
  /** From 1 on it has been taken before: by a scheduler that died, or it comes back from the lanes. */
  readonly attempt: number;
  /** It was admitted before. */
  readonly resumed: boolean;
  /** KV blocks that it is expected to need. */
  readonly blocks: number;
  /** Prompt tokens to compute. */
  readonly promptTokens: number;
  readonly tenant: number;
  /** Weighted tokens that its tenant is charged when it is admitted: see fair-share.ts. */
  readonly cost: number;
  /** True for `offline`. */
  readonly offline: boolean;
  /** When it came, in milliseconds. */
  readonly since: number;
  /** Absolute, in milliseconds; 0: none. */
  readonly deadline: number;
}

export interface AdmissionLimits extends FairShareLimits {
  /** Requests waiting, at most. */
  readonly maxWaiting: number;
  /** A request that has waited so long is passed no more, in milliseconds. */
  readonly passMs: number;
  /** Offline requests that wait while none was admitted for so long send one before interactive ones, in milliseconds. */
  readonly offlinePatienceMs: number;
  /** How many waiting requests behind one that does not fit are tried. */
  readonly lookAhead: number;
}

/** What is to be admitted before somebody. */
export interface Ahead {
  requests: number;
  blocks: number;
  promptTokens: number;
}

/** Blocks for so many tokens. */
export function blocksFor(tokens: number, blockTokens: number): number {
  return Math.ceil(tokens / blockTokens);
}

export class AdmissionQueue<W extends Waiting> {
  /** Interactive, offline. */
  readonly #classes: readonly [ClassQueue<W>, ClassQueue<W>];
  /** When an offline request was last admitted, or began to wait alone. */
  #offlineServedAt = 0;

  constructor(readonly limits: AdmissionLimits) {
    this.#classes = [new ClassQueue(limits), new ClassQueue(limits)];
  }

  get size(): number {
    return this.#classes[0].size + this.#classes[1].size;
  }

  /** Blocks that the waiting requests ask for. */
  get blocks(): number {
    return this.#classes[0].blocks + this.#classes[1].blocks;
  }

  /** Waiting requests of a class. */
  waiting(offline: boolean): number {
    return this.#of(offline).size;
  }

  /** The shares of a class. */
  shares(offline: boolean): FairShare {
    return this.#of(offline).shares;
  }

  /** What would be admitted before a newcomer. */
  ahead(newcomer: Pick<Waiting, "offline" | "tenant">): Ahead {
    const sum: Ahead = { requests: 0, blocks: 0, promptTokens: 0 };
    this.#of(newcomer.offline).addAhead(newcomer.tenant, sum);
    if (newcomer.offline) this.#classes[0].addAll(sum);
    return sum;
  }

  /** False when the queue is full. What was taken before is always taken, and what was admitted before comes first. */
  add(waiting: W): boolean {
    if (waiting.attempt === 0 && this.size >= this.limits.maxWaiting) return false;
    this.#put(waiting);
    return true;
  }

  /** Adds a newcomer in the place that `displace` made, however many resumed requests make the queue too long. */
  replace(waiting: W): void {
    this.#put(waiting);
  }

  #put(waiting: W): void {
    const queue = this.#of(waiting.offline);
    if (waiting.offline && queue.size === 0 && !waiting.resumed) {
      this.#offlineServedAt = Math.max(this.#offlineServedAt, waiting.since);
    }
    queue.add(waiting);
  }

  /**
   * Makes room in a full queue for a newcomer whose tenant has fewer requests waiting in its class than another:
   * takes out the last that came of the tenant with most. Undefined when the newcomer's own has as many, or all of
   * that tenant's were admitted before.
   */
  displace({ offline, tenant }: Pick<Waiting, "offline" | "tenant">): W | undefined {
    return this.#of(offline).displace(tenant);
  }

  /** Takes a request out, if it waits. */
  remove(request: number): W | undefined {
    return this.#classes[0].remove(request) ?? this.#classes[1].remove(request);
  }

  /** Takes out all whose deadline has passed. */
  expired(now: number): W[] {
    const late = ({ deadline }: W) => deadline > 0 && deadline <= now;
    return [...this.#classes[0].takeAll(late), ...this.#classes[1].takeAll(late)];
  }

  /**
   * The next to admit of those that `fits` lets in, taken out of the queue and charged to its tenant; undefined
   * when nobody fits or may pass.
   */
  next(fits: (waiting: W) => boolean, now: number): W | undefined {
    const [interactive, offline] = this.#classes;
    for (const queue of this.offlineIsDue(now) ? [offline, interactive] : [interactive, offline]) {
      const { taken, blocked } = queue.next(fits, now);
      if (taken?.offline) this.#offlineServedAt = now;
      if (taken || blocked) return taken;
    }
    return undefined;
  }

  /** True when offline requests have waited so long, and none was admitted, that one goes before interactive ones. */
  offlineIsDue(now: number): boolean {
    return this.#classes[1].size > 0 && now - this.#offlineServedAt >= this.limits.offlinePatienceMs;
  }

  /** The request that is first in turn of a class, whether it fits or not. */
  first(offline: boolean): W | undefined {
    return this.#of(offline).first();
  }

  /** Takes out everything. */
  clear(): W[] {
    return [...this.#classes[0].takeAll(() => true), ...this.#classes[1].takeAll(() => true)];
  }

  #of(offline: boolean): ClassQueue<W> {
    return this.#classes[offline ? 1 : 0];
  }
}

/** The requests of one class: a line for each tenant. */
class ClassQueue<W extends Waiting> {
  readonly shares: FairShare;
  readonly #lines = new Map<number, W[]>();
  size = 0;
  blocks = 0;

  constructor(readonly limits: AdmissionLimits) {
    this.shares = new FairShare(limits);
  }

  add(waiting: W): void {
    let line = this.#lines.get(waiting.tenant);
    if (!line) {
      line = [];
      this.#lines.set(waiting.tenant, line);
      this.shares.begins(waiting.tenant);
    }
    const after = waiting.resumed ? line.findIndex((w) => !w.resumed || w.request > waiting.request) : -1;
    line.splice(after < 0 ? line.length : after, 0, waiting);
    this.size++;
    this.blocks += waiting.blocks;
  }

  remove(request: number): W | undefined {
    for (const line of this.#lines.values()) {
      const at = line.findIndex((w) => w.request === request);
      if (at >= 0) return this.#take(line, at);
    }
    return undefined;
  }

  takeAll(which: (waiting: W) => boolean): W[] {
    const taken: W[] = [];
    for (const line of [...this.#lines.values()]) {
      for (let at = 0; at < line.length; ) {
        if (which(line[at] as W)) taken.push(this.#take(line, at));
        else at++;
      }
    }
    return taken;
  }

  displace(tenant: number): W | undefined {
    let longest: W[] = [];
    for (const line of this.#lines.values()) if (line.length > longest.length) longest = line;
    const own = this.#lines.get(tenant)?.length ?? 0;
    // Resumed ones stand before all others, and are not taken back: their readers have had tokens.
    const last = longest.at(-1);
    if (longest.length <= own + 1 || last === undefined || last.resumed) return undefined;
    return this.#take(longest, longest.length - 1);
  }

  first(): W | undefined {
    return this.#inTurn()[0]?.[0];
  }

  /** `blocked`: somebody who does not fit has waited so long that nobody passes any more. */
  next(
    fits: (waiting: W) => boolean,
    now: number,
  ): { readonly taken: W | undefined; readonly blocked: boolean } {
    const lines = this.#inTurn();
    let left = this.limits.lookAhead + 1;
    for (let at = 0; left > 0; at++) {
      let some = false;
      for (const line of lines) {
        const waiting = line[at];
        if (!waiting) continue;
        some = true;
        if (fits(waiting)) {
          this.shares.charge(waiting.tenant, waiting.cost);
          return { taken: this.#take(line, at), blocked: false };
        }
        if (now - waiting.since >= this.limits.passMs) return { taken: undefined, blocked: true };
        if (--left === 0) break;
      }
      if (!some) break;
    }
    return { taken: undefined, blocked: false };
  }

  addAll(sum: Ahead): void {
    for (const line of this.#lines.values()) for (const waiting of line) count(waiting, sum);
  }

  addAhead(tenant: number, sum: Ahead): void {
    let turn = this.shares.counter(tenant);
    for (const waiting of this.#lines.get(tenant) ?? []) {
      count(waiting, sum);
      turn += waiting.cost;
    }
    for (const [other, line] of this.#lines) {
      if (other === tenant) continue;
      let theirs = this.shares.counter(other);
      for (const waiting of line) {
        if (theirs > turn) break;
        count(waiting, sum);
        theirs += waiting.cost;
      }
    }
  }

  /** The lines, that of the tenant served least first; of equals the one whose first came earlier. */
  #inTurn(): W[][] {
    if (this.#lines.size === 1) return [...this.#lines.values()];
    return [...this.#lines]
      .map(([tenant, line]) => ({ counter: this.shares.counter(tenant), line }))
      .sort((a, b) => a.counter - b.counter || (a.line[0] as W).since - (b.line[0] as W).since)
      .map(({ line }) => line);
  }

  #take(line: W[], at: number): W {
    const [taken] = line.splice(at, 1) as [W];
    this.size--;
    this.blocks -= taken.blocks;
    if (line.length === 0) {
      this.#lines.delete(taken.tenant);
      this.shares.ceases(taken.tenant);
    }
    return taken;
  }
}

function count({ blocks, promptTokens }: Waiting, sum: Ahead): void {
  sum.requests++;
  sum.blocks += blocks;
  sum.promptTokens += promptTokens;
}
