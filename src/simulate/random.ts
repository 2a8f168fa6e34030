/** A seeded source of random numbers (SplitMix32): equal seeds give equal runs on every machine. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = (Math.imul(seed, 0x9e3779b1) ^ Math.floor(seed / 2 ** 32)) | 0;
    this.word();
  }

  /** A 32-bit word. */
  word(): number {
    this.#state = (this.#state + 0x9e3779b9) | 0;
    let z = this.#state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  }

  /** In [0, 1). */
  unit(): number {
    return this.word() / 2 ** 32;
  }

  /** A whole number from `from` to `to`, both included. */
  between(from: number, to: number): number {
    return from + Math.floor(this.unit() * (to - from + 1));
  }

  /** The same, with each doubling equally likely: most are small, some are large. */
  skewed(from: number, to: number): number {
    return Math.min(to, Math.floor(from * (to / from) ** (this.unit() * 1.02)));
  }

  chance(probability: number): boolean {
    return this.unit() < probability;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.between(0, items.length - 1)] as T;
  }

  /** Time to the next event of a Poisson process with this mean distance. */
  exponential(mean: number): number {
    return -mean * Math.log(1 - this.unit());
  }

  /** An independent source, so that what one part draws does not shift what another draws. */
  fork(): Random {
    return new Random(this.word());
  }
}
