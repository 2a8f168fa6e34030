/**
 * Who is admitted next. Two first-in-first-out classes over one budget of KV blocks: interactive requests come
 * first, offline ones fill what is spare. A smaller request may pass a head that does not fit, but only until
 * the head has waited `passMs`; then everyone behind it waits for it, so that big requests do not starve.
 * Pure: time is an argument.
 */

export interface Waiting {
  readonly request: number;
  readonly attempt: number;
  /** KV blocks that it may need: prompt and output to its limit. */
  readonly blocks: number;
  /** True for `offline`. */
  readonly offline: boolean;
  /** When it came, in milliseconds. */
  readonly since: number;
  /** Absolute, in milliseconds; 0: none. */
  readonly deadline: number;
}

export interface AdmissionLimits {
  /** Requests waiting, at most. */
  readonly maxWaiting: number;
  /** A head that has waited so long is passed no more, in milliseconds. */
  readonly passMs: number;
  /** An offline request that has waited so long counts as interactive, in milliseconds. */
  readonly offlinePatienceMs: number;
  /** How many waiting requests behind a head that does not fit are tried. */
  readonly lookAhead: number;
}

/** Blocks for so many tokens. */
export function blocksFor(tokens: number, blockTokens: number): number {
  return Math.ceil(tokens / blockTokens);
}

export class AdmissionQueue<W extends Waiting> {
  readonly #classes: [W[], W[]] = [[], []];
  #blocks = 0;

  constructor(readonly limits: AdmissionLimits) {}

  get size(): number {
    return this.#classes[0].length + this.#classes[1].length;
  }

  /** Blocks that the waiting requests ask for. */
  get blocks(): number {
    return this.#blocks;
  }

  /** Blocks asked for by those who would be admitted before a newcomer of that class. */
  blocksAhead(offline: boolean): number {
    let sum = 0;
    for (const w of this.#classes[0]) sum += w.blocks;
    if (offline) for (const w of this.#classes[1]) sum += w.blocks;
    return sum;
  }

  /** False when the queue is full. A resumed request (`front`) has waited before: it is always taken, first. */
  add(waiting: W, front: boolean): boolean {
    if (!front && this.size >= this.limits.maxWaiting) return false;
    const queue = this.#classes[waiting.offline ? 1 : 0];
    if (front) queue.unshift(waiting);
    else queue.push(waiting);
    this.#blocks += waiting.blocks;
    return true;
  }

  /** Takes a request out, if it waits. */
  remove(request: number): W | undefined {
    for (const queue of this.#classes) {
      const at = queue.findIndex((w) => w.request === request);
      if (at >= 0) return this.#take(queue, at);
    }
    return undefined;
  }

  /** Takes out all whose deadline has passed. */
  expired(now: number): W[] {
    const gone: W[] = [];
    for (const queue of this.#classes) {
      for (let i = queue.length - 1; i >= 0; i--) {
        const deadline = queue[i]!.deadline;
        if (deadline > 0 && deadline <= now) gone.push(this.#take(queue, i));
      }
    }
    return gone.reverse();
  }

  /** The next to admit into `freeBlocks`, taken out of the queue; undefined when nobody fits or may pass. */
  next(freeBlocks: number, now: number): W | undefined {
    const [interactive, offline] = this.#classes;
    const patient = offline[0];
    const order =
      patient && now - patient.since >= this.limits.offlinePatienceMs
        ? [offline, interactive]
        : [interactive, offline];
    for (const queue of order) {
      const head = queue[0];
      if (!head) continue;
      const reach = Math.min(queue.length, this.limits.lookAhead + 1);
      for (let i = 0; i < reach; i++) {
        if (queue[i]!.blocks <= freeBlocks) return this.#take(queue, i);
        if (now - queue[i]!.since >= this.limits.passMs) return undefined;
      }
    }
    return undefined;
  }

  clear(): W[] {
    const all = [...this.#classes[0], ...this.#classes[1]];
    this.#classes[0].length = 0;
    this.#classes[1].length = 0;
    this.#blocks = 0;
    return all;
  }

  #take(queue: W[], at: number): W {
    const [taken] = queue.splice(at, 1) as [W];
    this.#blocks -= taken.blocks;
    return taken;
  }
}

/**
 * How long reservations last, learnt from those given back. By Little's law blocks come free at the rate of
 * reserved blocks / mean time held, which turns blocks ahead into a predicted wait.
 */
export class HoldingTime {
  #meanMs = 0;
  #seen = 0;

  /** `memory`: reservations that the mean is over. */
  constructor(readonly memory: number) {}

  /** A reservation was given back after so long. */
  released(heldMs: number): void {
    this.#seen = Math.min(this.#seen + 1, this.memory);
    this.#meanMs += (heldMs - this.#meanMs) / this.#seen;
  }

  /** Milliseconds until `missing` more of `reserved` blocks are free; `unknownMs` while nothing has been learnt. */
  predictMs(missing: number, reserved: number, unknownMs: number): number {
    if (missing <= 0) return 0;
    if (this.#seen === 0 || reserved <= 0) return unknownMs;
    return (missing * this.#meanMs) / reserved;
  }
}
