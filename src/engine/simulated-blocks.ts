import { StreamServeError } from "../errors.js";
import { NO_BLOCK, PrefixIndex } from "./prefix-index.js";
import { mix } from "./simulated-model.js";

/**
 * The blocks of a simulated KV pool: reference counts, the free list and the tree of cached prefixes. A block
 * holds one 32-bit cell a token in place of keys and values.
 */
export class SimulatedBlocks {
  /** Cells, block after block. A freed block keeps its cells, as real memory does. */
  readonly cells: Int32Array;
  /** Sum of a block's cells, kept up to date by `write`. */
  readonly sums: Int32Array;
  readonly references: Uint32Array;
  readonly #free: number[] = [];
  readonly #prefixes: PrefixIndex;
  readonly #entries: (PrefixEntry | undefined)[];

  constructor(
    readonly total: number,
    readonly blockTokens: number,
    /** See `PrefixIndexOptions`. */
    attentionTokens: number,
  ) {
    this.#prefixes = new PrefixIndex({ blocks: total, blockTokens, attentionTokens });
    this.cells = new Int32Array(total * blockTokens);
    this.sums = new Int32Array(total);
    this.references = new Uint32Array(total);
    this.#entries = new Array(total).fill(undefined);
    for (let i = total; i-- > 0; ) this.#free.push(i);
  }

  get free(): number {
    return this.#free.length;
  }

  get cached(): number {
    return this.#prefixes.idle;
  }

  /** Cached blocks that gave way, ever. */
  get evictions(): number {
    return this.#prefixes.evictions;
  }

  /** Stores the cell of a token. */
  write(block: number, slot: number, cell: number): void {
    const at = block * this.blockTokens + slot;
    this.sums[block] = ((this.sums[block] as number) - (this.cells[at] as number) + cell) | 0;
    this.cells[at] = cell;
  }

  /** A block for new tokens, referenced once: a free one, else the cached one of least worth. Throws `kv_exhausted`. */
  take(): number {
    let block = this.#free.pop();
    if (block === undefined) {
      block = this.#prefixes.evict();
      if (block === NO_BLOCK) throw new StreamServeError("kv_exhausted", "No KV block is free.");
      this.#entries[block] = undefined;
    }
    this.references[block] = 1;
    return block;
  }

  /** One holder more of a block found by `find`. */
  share(block: number): void {
    this.#prefixes.reuse(block, this.references[block] === 0);
    (this.references[block] as number)++;
  }

  /** One holder less; the last one leaves the block cached if its prefix is known, else free. */
  drop(block: number): void {
    const left = (this.references[block] as number) - 1;
    this.references[block] = left;
    if (left > 0) return;
    if (this.#entries[block]) this.#prefixes.release(block);
    else this.#free.push(block);
  }

  /** The block that holds these tokens behind the chain `parent`. */
  find(chain: number, parent: number, tokens: readonly number[]): number | undefined {
    const block = this.#prefixes.find(chain);
    const entry = block === undefined ? undefined : this.#entries[block];
    if (entry === undefined || entry.parent !== parent) return undefined;
    return entry.tokens.every((token, i) => token === tokens[i]) ? block : undefined;
  }

  /**
   * Remembers a full, computed block for its prefix, below the block `above` (NO_BLOCK at the beginning of a
   * chain). `begins`: the first of its sequence that was not found. False when its chain is known already.
   */
  remember(
    block: number,
    chain: number,
    parent: number,
    tokens: readonly number[],
    above: number,
    begins: boolean,
  ): boolean {
    if (this.#prefixes.find(chain) !== undefined) return false;
    this.#prefixes.insert(block, chain, above, begins);
    this.#entries[block] = { parent, tokens };
    return true;
  }

  /** Blocks on the free list, for checks. */
  freeList(): readonly number[] {
    return this.#free;
  }

  /** Cached blocks, for checks. */
  cachedList(): Iterable<number> {
    return this.#prefixes.idleBlocks();
  }
}

interface PrefixEntry {
  readonly parent: number;
  readonly tokens: readonly number[];
}

/** Hash of a chain of blocks and one block more, in 53 bits. */
export function extendChain(parent: number, tokens: readonly number[]): number {
  let low = parent | 0;
  let high = Math.floor(parent / 2 ** 32) | 0;
  for (const token of tokens) {
    low = mix(low, token);
    high = mix(high ^ 0x5bd1e995, token + 1);
  }
  return (high >>> 11) * 2 ** 32 + (low >>> 0);
}
