/** Kinds of lanes that share cores. */
export type CoreRole = "prefill" | "decode";

/** A step that computes: how long it takes is known as it goes, since others come and end beside it. */
export interface RunningStep {
  /** Milliseconds until it ends if no other begins before; 0: it has ended. */
  readonly leftMs: number;
  /** How long it has run, and how much of that beside lanes of the other kind: milliseconds. */
  readonly ranMs: number;
  readonly sharedMs: number;
}

interface Work {
  readonly role: CoreRole;
  /** Milliseconds that it would still take alone. */
  left: number;
}

type Factors = Readonly<Record<CoreRole, number>>;

/** Less than this is nothing: what rounding leaves. */
const NOTHING_MS = 1e-6;

/**
 * The cores of one machine, shared by the lanes on it as the native pool of compute threads shares them: lanes of one kind
 * alone have them all, each kind beside the other has a part, and within a kind its lanes share alike. What a step has
 * for a time it has for that time alone: one that ends leaves its part to the others at once.
 */
export class SimulatedCores {
  #running: CoreStep[] = [];
  #at = 0;

  /**
   * `factors`: how many times as long a kind's steps take beside the other kind, which is with about half of the cores.
   * `now`: milliseconds.
   */
  constructor(
    readonly factors: Factors,
    readonly now: () => number,
  ) {}

  /** A step of `ms` milliseconds, were it alone, begins. */
  begin(role: CoreRole, ms: number): RunningStep {
    this.#advance();
    const step = new CoreStep(role, ms, () => this.#endsInMs(step));
    this.#running.push(step);
    return step;
  }

  /** Lets the steps come on by the time since this was last done. One whose lane has died ends too, though nobody looks. */
  #advance(): void {
    const now = this.now();
    let left = now - this.#at;
    this.#at = now;
    while (left > 0 && this.#running.length > 0) {
      const ms = comeOn(this.#running, left, this.factors);
      const beside = bothRoles(this.#running);
      for (const step of this.#running) step.passed(ms, beside);
      this.#running = this.#running.filter(goesOn);
      left -= ms;
    }
  }

  #endsInMs(step: CoreStep): number {
    this.#advance();
    let running: Work[] = this.#running.map(({ role, left }) => ({ role, left }));
    const own = running[this.#running.indexOf(step)];
    let ms = 0;
    while (own && goesOn(own)) {
      ms += comeOn(running, Number.POSITIVE_INFINITY, this.factors);
      running = running.filter(goesOn);
    }
    return ms;
  }
}

class CoreStep implements RunningStep, Work {
  ranMs = 0;
  sharedMs = 0;

  constructor(
    readonly role: CoreRole,
    public left: number,
    readonly endsInMs: () => number,
  ) {}

  get leftMs(): number {
    return this.endsInMs();
  }

  passed(ms: number, beside: boolean): void {
    this.ranMs += ms;
    if (beside) this.sharedMs += ms;
  }
}

const goesOn = ({ left }: Work) => left > NOTHING_MS;

/** Lets all come on until the first has ended, `most` milliseconds at most; returns how long that took. */
function comeOn(running: readonly Work[], most: number, factors: Factors): number {
  const slowdowns = running.map(({ role }) => slowdownOf(role, running, factors));
  const ms = Math.min(most, ...running.map(({ left }, i) => left * slowdowns[i]!));
  for (const [i, one] of running.entries()) one.left -= ms / slowdowns[i]!;
  return ms;
}

function bothRoles(running: readonly Work[]): boolean {
  return running.some(({ role }) => role !== running[0]!.role);
}

/** How many times as long a step takes as alone. */
function slowdownOf(role: CoreRole, running: readonly Work[], factors: Factors): number {
  const alike = running.filter((one) => one.role === role).length;
  if (alike < running.length) return alike * factors[role];
  // A lane with half of the cores takes as long as beside the other kind.
  return alike === 1 ? 1 : (alike * factors[role]) / 2;
}
