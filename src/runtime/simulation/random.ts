/** A small seeded generator (sfc32): the same seed gives the same numbers on every machine. */
export class Random {
  private a: number;
  private b: number;
  private c = 0x9e3779b9;
  private count = 1;

  constructor(seed: number) {
    this.a = seed | 0;
    this.b = Math.floor(seed / 2 ** 32) | 0;
    for (let i = 0; i < 16; i++) this.u32();
  }

  u32(): number {
    const result = (((this.a + this.b) | 0) + this.count) | 0;
    this.count = (this.count + 1) | 0;
    this.a = this.b ^ (this.b >>> 9);
    this.b = (this.c + (this.c << 3)) | 0;
    this.c = ((this.c << 21) | (this.c >>> 11)) + result;
    return result >>> 0;
  }

  /** From 0 up to, not including, 1. */
  unit(): number {
    return this.u32() / 2 ** 32;
  }

  between(least: number, most: number): number {
    return least + (most - least) * this.unit();
  }

  /** A whole number below `bound`. */
  below(bound: number): number {
    return Math.floor(this.unit() * bound);
  }
}
