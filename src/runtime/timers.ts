/** A pending timer; `index` is its place in the heap, -1 once it has left it. */
export interface Timer {
  readonly at: number;
  readonly order: number;
  readonly fire: () => void;
  index: number;
}

/** Timers by due time, then by order of creation: a binary heap from which any timer can be removed. */
export class Timers {
  private readonly heap: Timer[] = [];
  private order = 0;

  /** When the first timer is due; Infinity if there is none. */
  get nextAt(): number {
    return this.heap[0]?.at ?? Number.POSITIVE_INFINITY;
  }

  get size(): number {
    return this.heap.length;
  }

  add(at: number, fire: () => void): Timer {
    const timer: Timer = { at, order: this.order++, fire, index: this.heap.length };
    this.heap.push(timer);
    this.up(timer);
    return timer;
  }

  /** False if it has fired or was removed already. */
  remove(timer: Timer): boolean {
    const { index } = timer;
    if (index < 0) return false;
    const last = this.heap.pop()!;
    timer.index = -1;
    if (last !== timer) {
      this.set(index, last);
      this.up(last);
      this.down(last);
    }
    return true;
  }

  /** Takes the first timer out if it is due at `now`. */
  takeDue(now: number): Timer | undefined {
    const first = this.heap[0];
    if (first === undefined || first.at > now) return undefined;
    this.remove(first);
    return first;
  }

  private set(index: number, timer: Timer): void {
    this.heap[index] = timer;
    timer.index = index;
  }

  private up(timer: Timer): void {
    while (timer.index > 0) {
      const parent = this.heap[(timer.index - 1) >> 1]!;
      if (!before(timer, parent)) return;
      const index = parent.index;
      this.set(timer.index, parent);
      this.set(index, timer);
    }
  }

  private down(timer: Timer): void {
    for (;;) {
      const left = this.heap[2 * timer.index + 1];
      if (left === undefined) return;
      const right = this.heap[2 * timer.index + 2];
      const child = right !== undefined && before(right, left) ? right : left;
      if (!before(child, timer)) return;
      const index = child.index;
      this.set(timer.index, child);
      this.set(index, timer);
    }
  }
}

function before(a: Timer, b: Timer): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
