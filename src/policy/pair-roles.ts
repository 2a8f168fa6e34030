/**
 * When a pair's lanes do each other's work. One kind of lane starves the requests while the other has time: then that one
 * helps out until it is over. Two thresholds each, so that roles do not change with every report.
 */

export interface RoleConstants {
  /** False: lanes keep to their roles. */
  readonly balanced: boolean;
  /** Decode is full when a step with all the pair's rows takes so many times what a lone row's does. */
  readonly lendPressure: number;
  /** Prefill is full when prompts for so many whole steps wait. */
  readonly lendSteps: number;
}

/** What a pair's roles are decided by. */
export interface Pressure {
  /** Step time with all rows of the pair in its decode lane, over that with one row. */
  readonly decode: number;
  /** Whole steps' worth of prompts that wait, wherever. */
  readonly prefillSteps: number;
  /** Share of its time that the prefill lane computes prompts. */
  readonly prefillBusy: number;
}

/** What helped out goes back to its role below this share of what called for help. */
const OVER = 0.6;
/**
 * A prefill lane decodes while it is idle for half of its time and has no whole step's prompts, until it is idle for less
 * than a fifth or has two.
 */
const IDLE_ENOUGH = { busy: 0.5, steps: 1 };
const TOO_BUSY = { busy: 0.8, steps: 2 };

const KEEPS = 1;
const COMPUTES = 2;

export class PairRoles {
  readonly #roles: Uint8Array;

  constructor(
    pairs: number,
    readonly constants: RoleConstants,
  ) {
    this.#roles = new Uint8Array(pairs);
  }

  /** The pair's prefill lane decodes too. */
  keeps(pair: number): boolean {
    return (this.#roles[pair]! & KEEPS) !== 0;
  }

  /** The pair's decode lane computes prompts of any length too. */
  computes(pair: number): boolean {
    return (this.#roles[pair]! & COMPUTES) !== 0;
  }

  /** One of its lanes does the other's work. */
  lends(pair: number): boolean {
    return this.#roles[pair]! !== 0;
  }

  /** True when this changes the pair's roles. */
  observe(pair: number, { decode, prefillSteps, prefillBusy }: Pressure): boolean {
    const { balanced, lendPressure, lendSteps } = this.constants;
    if (!balanced) return false;
    const before = this.#roles[pair]!;
    // Each is over when either of its reasons is.
    const keeps =
      before & KEEPS
        ? decode >= OVER * lendPressure && prefillBusy < TOO_BUSY.busy && prefillSteps < TOO_BUSY.steps
        : decode >= lendPressure && prefillBusy < IDLE_ENOUGH.busy && prefillSteps < IDLE_ENOUGH.steps;
    const computes =
      before & COMPUTES
        ? prefillSteps >= OVER * lendSteps && decode < lendPressure
        : prefillSteps >= lendSteps && decode < OVER * lendPressure;
    const after = (keeps ? KEEPS : 0) | (computes ? COMPUTES : 0);
    this.#roles[pair] = after;
    return after !== before;
  }

  /** A lane died: its successor begins in its role. */
  reset(pair: number): void {
    this.#roles[pair] = 0;
  }

  /** Pairs whose lanes do each other's work now. */
  get lending(): { readonly prefill: number; readonly decode: number } {
    let prefill = 0;
    let decode = 0;
    for (const roles of this.#roles) {
      if (roles & KEEPS) prefill++;
      if (roles & COMPUTES) decode++;
    }
    return { prefill, decode };
  }
}
