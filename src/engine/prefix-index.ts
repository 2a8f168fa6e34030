import { LeafHeap, NO_BLOCK } from "./leaf-heap.js";
import { AGE_BUCKETS, ageBucket, ReuseModel } from "./reuse-model.js";

export { NO_BLOCK };

/** Blocks whose history is told apart: how often reused, and how many turns of a conversation lie before. */
const REUSE_CLASSES = 5;
const TURN_CLASSES = 4;
const CLASSES = REUSE_CLASSES * TURN_CLASSES;

export interface PrefixIndexOptions {
  /** Blocks of the pool. */
  readonly blocks: number;
  /** Tokens of context whose attention costs as much as everything else of a token: makes late blocks dearer. */
  readonly attentionTokens: number;
  readonly blockTokens: number;
}

/** What a block that was given up is remembered by. */
interface Ghost {
  readonly kind: number;
  readonly reuses: number;
  readonly turn: number;
  readonly idleSince: number;
}

/**
 * The radix tree of cached prefixes and the order in which they give way. A node is a block of the pool that holds
 * what its chain names; its parent holds the block before. A block is idle when no sequence holds it. Idle leaves
 * are the candidates for eviction: of each class of history the longest idle, and of these the one with the least
 * worth, worth being expected reuse per time times the time to compute it again. Evicted blocks are remembered for a
 * while as ghosts, so that what eviction costs is learnt too. Finding a victim takes O(classes + log blocks).
 */
export class PrefixIndex {
  readonly model = new ReuseModel(CLASSES);
  readonly #byChain = new Map<number, number>();
  readonly #chain: Float64Array;
  readonly #known: Uint8Array;
  readonly #parent: Int32Array;
  readonly #children: Uint32Array;
  readonly #position: Uint32Array;
  readonly #reuses: Uint32Array;
  readonly #turn: Uint8Array;
  readonly #idle: Uint8Array;
  readonly #idleSince: Float64Array;
  readonly #heaps: readonly LeafHeap[];
  readonly #ghosts = new Map<number, Ghost>();
  #idleCount = 0;
  #now = 0;
  #refreshAt: number;
  evictions = 0;

  constructor(readonly options: PrefixIndexOptions) {
    const { blocks } = options;
    this.#chain = new Float64Array(blocks);
    this.#known = new Uint8Array(blocks);
    this.#parent = new Int32Array(blocks).fill(NO_BLOCK);
    this.#children = new Uint32Array(blocks);
    this.#position = new Uint32Array(blocks);
    this.#reuses = new Uint32Array(blocks);
    this.#turn = new Uint8Array(blocks);
    this.#idle = new Uint8Array(blocks);
    this.#idleSince = new Float64Array(blocks);
    const places = new Int32Array(blocks);
    this.#heaps = Array.from({ length: CLASSES }, () => new LeafHeap(this.#idleSince, places));
    this.#refreshAt = blocks;
  }

  /** Idle blocks. */
  get idle(): number {
    return this.#idleCount;
  }

  find(chain: number): number | undefined {
    return this.#byChain.get(chain);
  }

  has(block: number): boolean {
    return this.#known[block] === 1;
  }

  /** The idle blocks, for checks. */
  *idleBlocks(): Iterable<number> {
    for (let block = 0; block < this.options.blocks; block++) if (this.#idle[block]) yield block;
  }

  /**
   * Makes `block`, which a sequence holds, the node of `chain` below `parent`; `chain` must not be known. `begins`:
   * the first block of its sequence that was not found.
   */
  insert(block: number, chain: number, parent: number, begins: boolean): void {
    this.#tick();
    const ghost = this.#ghosts.get(chain);
    this.#byChain.set(chain, block);
    this.#chain[block] = chain;
    this.#known[block] = 1;
    this.#parent[block] = parent;
    this.#children[block] = 0;
    this.#position[block] = parent === NO_BLOCK ? 0 : this.#position[parent]! + 1;
    this.#reuses[block] = 0;
    this.#turn[block] = 0;
    if (parent !== NO_BLOCK) {
      // Going on from a leaf is a conversation's next turn; from anywhere else, a new one.
      if (!begins) this.#turn[block] = this.#turn[parent]!;
      else if (this.#children[parent] === 0) this.#turn[block] = Math.min(255, this.#turn[parent]! + 1);
      this.#children[parent]!++;
    }
    if (!ghost) return;
    this.#ghosts.delete(chain);
    this.model.reused(ghost.kind, this.#now - ghost.idleSince);
    this.#reuses[block] = ghost.reuses + 1;
    this.#turn[block] = Math.max(ghost.turn, this.#turn[block]!);
  }

  /** A new sequence holds `block`, which was found; `first`: and nobody else does. */
  reuse(block: number, first: boolean): void {
    this.#tick();
    if (first) {
      this.model.reused(this.#kind(block), this.#now - this.#idleSince[block]!);
      if (this.#children[block] === 0) this.#heaps[this.#kind(block)]!.remove(block);
      this.#idle[block] = 0;
      this.#idleCount--;
    }
    this.#reuses[block]!++;
  }

  /** Nobody holds `block` any more. */
  release(block: number): void {
    this.#idle[block] = 1;
    this.#idleCount++;
    this.#idleSince[block] = this.#now;
    if (this.#children[block] === 0) this.#heaps[this.#kind(block)]!.add(block);
  }

  /** Takes the idle leaf of least worth out of the tree; NO_BLOCK when none is idle. */
  evict(): number {
    let victim = NO_BLOCK;
    let least = Number.POSITIVE_INFINITY;
    for (let kind = 0; kind < CLASSES; kind++) {
      const block = this.#heaps[kind]!.first;
      if (block === NO_BLOCK) continue;
      const worth =
        this.model.worth(kind, this.#now - this.#idleSince[block]!) * this.#recompute(this.#position[block]!);
      if (worth >= least) continue;
      least = worth;
      victim = block;
    }
    if (victim === NO_BLOCK) return NO_BLOCK;
    const kind = this.#kind(victim);
    this.#heaps[kind]!.remove(victim);
    this.#remember(victim, kind);
    this.#byChain.delete(this.#chain[victim]!);
    this.#known[victim] = 0;
    this.#idle[victim] = 0;
    this.#idleCount--;
    this.evictions++;
    const parent = this.#parent[victim]!;
    if (parent !== NO_BLOCK) {
      this.#children[parent]!--;
      if (this.#children[parent] === 0 && this.#idle[parent]) this.#heaps[this.#kind(parent)]!.add(parent);
    }
    return victim;
  }

  #kind(block: number): number {
    const reuses = Math.min(REUSE_CLASSES - 1, 32 - Math.clz32(this.#reuses[block]!));
    const turn = Math.min(TURN_CLASSES - 1, 32 - Math.clz32(this.#turn[block]!));
    return reuses * TURN_CLASSES + turn;
  }

  /** Time to compute a block again, in that of the first. */
  #recompute(position: number): number {
    return 1 + (position * this.options.blockTokens) / this.options.attentionTokens;
  }

  /** Keeps twice as many ghosts as there are blocks: what comes back later than that is as good as new. */
  #remember(block: number, kind: number): void {
    this.#ghosts.set(this.#chain[block]!, {
      kind,
      reuses: this.#reuses[block]!,
      turn: this.#turn[block]!,
      idleSince: this.#idleSince[block]!,
    });
    if (this.#ghosts.size <= 2 * this.options.blocks) return;
    const [chain, oldest] = this.#ghosts.entries().next().value!;
    this.#ghosts.delete(chain);
    this.model.lost(oldest.kind, this.#now - oldest.idleSince);
  }

  #tick(): void {
    this.#now++;
    if (this.#now < this.#refreshAt) return;
    this.#refreshAt = this.#now + this.options.blocks;
    const waiting = new Float64Array(CLASSES * AGE_BUCKETS);
    for (const block of this.idleBlocks()) {
      waiting[this.#kind(block) * AGE_BUCKETS + ageBucket(this.#now - this.#idleSince[block]!)]!++;
    }
    for (const { kind, idleSince } of this.#ghosts.values()) {
      waiting[kind * AGE_BUCKETS + ageBucket(this.#now - idleSince)]!++;
    }
    this.model.refresh(waiting);
  }
}
