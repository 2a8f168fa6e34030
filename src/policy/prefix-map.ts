/**
 * Which KV pool holds which prefix, as far as the router can know: it remembers what it sent where, in grains of so
 * many tokens, and takes a pool to have given up what has not been asked of it while it took in as much as it holds.
 * Nobody tells it of evictions, so it may be wrong either way; a wrong guess costs time and never a wrong token.
 */

const MOST_HOLDERS = 64;

interface Grain {
  /** Pools that took it, and when by each pool's own count of grains asked of it. */
  readonly pools: number[];
  readonly at: number[];
}

export interface PrefixMapOptions {
  readonly pools: number;
  /** Tokens in a grain. */
  readonly grainTokens: number;
  /** Grains that a pool holds. */
  readonly poolGrains: number;
  /** Grains remembered, at most. */
  readonly most: number;
}

export class PrefixMap {
  readonly #grains = new Map<number, Grain>();
  /** Grains asked of each pool, ever. */
  readonly #asked: Float64Array;
  readonly #cached: Uint32Array;
  readonly #touched: number[] = [];

  constructor(readonly options: PrefixMapOptions) {
    this.#asked = new Float64Array(options.pools);
    this.#cached = new Uint32Array(options.pools);
  }

  /** Grains remembered. */
  get size(): number {
    return this.#grains.size;
  }

  /**
   * Tokens of the prompt that each pool is taken to hold, by pool. `chain`: `chainOf` its tokens. The array is this
   * map's own and valid until the next call.
   */
  cached(chain: ArrayLike<number>): Uint32Array {
    const { grainTokens, poolGrains } = this.options;
    const cached = this.#cached;
    for (const pool of this.#touched) cached[pool] = 0;
    this.#touched.length = 0;
    for (let i = 0; i < chain.length; i++) {
      const grain = this.#grains.get(chain[i]!);
      if (!grain) break;
      let held = false;
      for (let n = 0; n < grain.pools.length; n++) {
        const pool = grain.pools[n]!;
        if (cached[pool] !== i || this.#asked[pool]! - grain.at[n]! > poolGrains) continue;
        if (i === 0) this.#touched.push(pool);
        cached[pool] = i + 1;
        held = true;
      }
      if (!held) break;
    }
    for (const pool of this.#touched) cached[pool]! *= grainTokens;
    return cached;
  }

  /** A prompt goes to `pool`: it will hold all of it. */
  sent(pool: number, chain: ArrayLike<number>): void {
    this.#asked[pool]! += chain.length;
    const now = this.#asked[pool]!;
    for (let i = 0; i < chain.length; i++) {
      const key = chain[i]!;
      const grain = this.#grains.get(key) ?? { pools: [], at: [] };
      hold(grain, pool, now);
      // Behind all others: the first of the map is the one not sent for longest.
      this.#grains.delete(key);
      this.#grains.set(key, grain);
    }
    while (this.#grains.size > this.options.most) this.#grains.delete(this.#grains.keys().next().value!);
  }
}

function hold(grain: Grain, pool: number, now: number): void {
  const known = grain.pools.indexOf(pool);
  if (known >= 0) grain.at[known] = now;
  else if (grain.pools.length < MOST_HOLDERS) {
    grain.pools.push(pool);
    grain.at.push(now);
  } else {
    // So many hold it that one less known changes little.
    const place = now % MOST_HOLDERS;
    grain.pools[place] = pool;
    grain.at[place] = now;
  }
}

/**
 * Names of the prompt's grains: 53 bits of each one's tokens and all before it, from `salt` on. The last token is
 * left out: it is always computed.
 */
export function chainOf(prompt: Uint32Array, grainTokens: number, salt: number): number[] {
  const grains = Math.floor((prompt.length - 1) / grainTokens);
  const chain: number[] = [];
  let low = salt | 0;
  let high = Math.floor(salt / 2 ** 32) | 0;
  let at = 0;
  for (let grain = 0; grain < grains; grain++) {
    for (const end = at + grainTokens; at < end; at++) {
      const token = prompt[at]! | 0;
      low = Math.imul(low ^ token, 0x9e3779b1);
      low ^= low >>> 15;
      high = Math.imul(high + token, 0x85ebca6b);
      high ^= (high >>> 13) ^ low;
    }
    chain.push((high >>> 11) * 2 ** 32 + (low >>> 0));
  }
  return chain;
}
