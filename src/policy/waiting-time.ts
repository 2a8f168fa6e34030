/**
 * How long reservations last, learnt from those given back. By Little's law what is reserved comes free at the
 * rate of reserved / mean time held, which turns what is missing into a predicted wait.
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

  /** Milliseconds until `missing` more of `reserved` are free; `unknownMs` while nothing has been learnt. */
  predictMs(missing: number, reserved: number, unknownMs: number): number {
    if (missing <= 0) return 0;
    if (this.#seen === 0 || reserved <= 0) return unknownMs;
    return (missing * this.#meanMs) / reserved;
  }
}
