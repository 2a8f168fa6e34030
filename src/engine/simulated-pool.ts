import { StreamServeError } from "../errors.js";
import { GREEDY, type KvCounts, type Sampling, type SequenceHandle } from "./engine.js";
import { NO_BLOCK } from "./prefix-index.js";
import { extendChain, SimulatedBlocks } from "./simulated-blocks.js";
import { samplingDigest } from "./simulated-model.js";

/** A sequence of the pool. `owner` may step it; `heir` is the lane it was handed to, until that one adopts it. */
export interface SimulatedSequence {
  readonly index: number;
  epoch: number;
  live: boolean;
  owner: number;
  heir: number;
  /** Its owner has been opened anew since it was handed over. */
  stranded: boolean;
  /** Part of a step under way: a release waits for its end. */
  inStep: boolean;
  releaseAfterStep: boolean;
  /** Tokens in the KV; `blocks` has room for all of them. */
  tokens: number[];
  blocks: number[];
  /** Full blocks whose chain is known, and the chain of the last of them. */
  hashedBlocks: number;
  chain: number;
  /** Leading blocks that were found, not computed. */
  foundBlocks: number;
  outputFrom: number;
  sampling: Sampling;
  digest: number;
}

export const NO_LANE = -1;
/** Sequences alive at once, at most. */
const MOST_SEQUENCES = 1 << 16;

/**
 * The KV pool of simulated lanes, with the accounting of the native one: blocks with reference counts, a
 * radix tree of full blocks that gives way by worth (prefix-index.ts), epochs, one owner a sequence, hand-over
 * without a copy.
 */
export class SimulatedPool {
  readonly blocks: SimulatedBlocks;
  readonly sequences: SimulatedSequence[] = [];
  readonly #freeSequences: number[] = [];
  /** Grows with each change: lets a checker skip a pool that stands still. */
  changes = 0;

  #hits = 0;
  #misses = 0;

  constructor(blocks: number, blockTokens: number, attentionTokens: number) {
    this.blocks = new SimulatedBlocks(blocks, blockTokens, attentionTokens);
  }

  counts(): KvCounts {
    const { total, free, cached } = this.blocks;
    return {
      totalBlocks: total,
      freeBlocks: free,
      cachedBlocks: cached,
      usedBlocks: total - free - cached,
      sequences: this.sequences.length - this.#freeSequences.length,
      prefixHits: this.#hits,
      prefixMisses: this.#misses,
      prefixEvictions: this.blocks.evictions,
    };
  }

  /**
   * A new sequence of `lane`, leading cached blocks of `prompt` shared up to the token before the last. Only
   * sequences of one `salt` share.
   */
  create(
    lane: number,
    prompt: readonly number[],
    outputFrom: number,
    sampling: Sampling,
    salt: number,
  ): SimulatedSequence {
    this.changes++;
    const sequence = this.#slot();
    Object.assign(sequence, {
      live: true,
      owner: lane,
      heir: NO_LANE,
      stranded: false,
      outputFrom,
      sampling,
    });
    sequence.digest = samplingDigest(sampling);
    sequence.chain = salt;
    const size = this.blocks.blockTokens;
    const shareable = Math.floor((prompt.length - 1) / size);
    for (let from = 0; from < shareable * size; from += size) {
      const tokens = prompt.slice(from, from + size);
      const chain = extendChain(sequence.chain, tokens);
      const block = this.blocks.find(chain, sequence.chain, tokens);
      if (block === undefined) break;
      this.blocks.share(block);
      sequence.blocks.push(block);
      sequence.tokens.push(...tokens);
      sequence.chain = chain;
      sequence.hashedBlocks++;
    }
    sequence.foundBlocks = sequence.hashedBlocks;
    this.#hits += sequence.foundBlocks;
    this.#misses += shareable - sequence.foundBlocks;
    return sequence;
  }

  /** The sequence that `lane` may step; throws `stale_handle`. */
  get(lane: number, handle: SequenceHandle): SimulatedSequence {
    const sequence = this.#find(handle);
    if (sequence && sequence.owner === lane && sequence.heir === NO_LANE) return sequence;
    throw stale(handle, `is gone or not lane ${lane}'s`);
  }

  /** Gives the sequence's blocks back, after the running step if it is in one. Stale handles are ignored. */
  release(lane: number, handle: SequenceHandle): void {
    const sequence = this.#find(handle);
    if (!sequence || (sequence.owner !== lane && sequence.heir !== lane)) return;
    this.changes++;
    if (sequence.inStep) sequence.releaseAfterStep = true;
    else this.#retire(sequence);
  }

  handOver(lane: number, handle: SequenceHandle, to: number): void {
    const sequence = this.get(lane, handle);
    if (sequence.inStep) {
      throw new StreamServeError("native_argument_invalid", "A sequence in a step can't be handed over.");
    }
    this.changes++;
    sequence.heir = to;
  }

  adopt(lane: number, handle: SequenceHandle): void {
    const sequence = this.#find(handle);
    if (!sequence || sequence.heir !== lane)
      throw stale(handle, `was not handed to lane ${lane}, or is gone`);
    this.changes++;
    sequence.owner = lane;
    sequence.heir = NO_LANE;
    sequence.stranded = false;
  }

  /** Releases all that `lane` owns or was handed, and marks what it had handed over; no step of it may be running. */
  reclaim(lane: number): void {
    this.changes++;
    for (const sequence of this.sequences) {
      if (!sequence.live) continue;
      const orphan = sequence.heir === lane || (sequence.owner === lane && sequence.heir === NO_LANE);
      if (orphan) this.#retire(sequence);
      else if (sequence.owner === lane) sequence.stranded = true;
    }
  }

  /** Releases what was handed to `lane` by lanes that were opened anew since, and what it has not adopted. */
  releaseStranded(lane: number): void {
    for (const sequence of this.sequences) {
      if (!sequence.live || !sequence.stranded || sequence.heir !== lane) continue;
      this.changes++;
      this.#retire(sequence);
    }
  }

  /** Gives each sequence blocks for `tokens` more and marks it as in a step; all or nothing (`kv_exhausted`). */
  grow(rows: readonly { readonly sequence: SimulatedSequence; readonly tokens: number }[]): void {
    const size = this.blocks.blockTokens;
    let wanted = 0;
    for (const { sequence, tokens } of rows) {
      wanted += Math.max(0, Math.ceil((sequence.tokens.length + tokens) / size) - sequence.blocks.length);
    }
    const spare = this.blocks.free + this.blocks.cached;
    if (wanted > spare) {
      throw new StreamServeError(
        "kv_exhausted",
        `The step needs ${wanted} more KV blocks; ${spare} are free.`,
      );
    }
    this.changes++;
    for (const { sequence, tokens } of rows) {
      const blocks = Math.ceil((sequence.tokens.length + tokens) / size);
      while (sequence.blocks.length < blocks) sequence.blocks.push(this.blocks.take());
      sequence.inStep = true;
    }
  }

  /** Ends a step: full blocks enter the prefix cache, blocks beyond `tokens` are given back. */
  settle(sequence: SimulatedSequence): void {
    this.changes++;
    sequence.inStep = false;
    const size = this.blocks.blockTokens;
    while ((sequence.hashedBlocks + 1) * size <= sequence.tokens.length) {
      const from = sequence.hashedBlocks * size;
      const tokens = sequence.tokens.slice(from, from + size);
      const chain = extendChain(sequence.chain, tokens);
      if (!this.#remember(sequence, chain, tokens)) break;
      sequence.chain = chain;
      sequence.hashedBlocks++;
    }
    if (sequence.releaseAfterStep) this.#retire(sequence);
    else this.#trim(sequence, Math.ceil(sequence.tokens.length / size));
  }

  /**
   * Makes the sequence's next full block known. Where an equal one is known, the sequence holds that one from now
   * on: so all known blocks of a chain are held by whoever holds its end, and cached leaves can always give way.
   * False when another chain has the same hash: the sequence's blocks stay unknown then.
   */
  #remember(sequence: SimulatedSequence, chain: number, tokens: readonly number[]): boolean {
    const at = sequence.hashedBlocks;
    const own = sequence.blocks[at] as number;
    const above = at === 0 ? NO_BLOCK : (sequence.blocks[at - 1] as number);
    const begins = at === sequence.foundBlocks;
    if (this.blocks.remember(own, chain, sequence.chain, tokens, above, begins)) return true;
    const known = this.blocks.find(chain, sequence.chain, tokens);
    if (known === undefined) return false;
    this.blocks.share(known);
    sequence.blocks[at] = known;
    this.blocks.drop(own);
    sequence.foundBlocks = at + 1;
    return true;
  }

  #find(handle: SequenceHandle): SimulatedSequence | undefined {
    const sequence = this.sequences[handle.index];
    const same = sequence?.live && sequence.epoch === handle.epoch && !sequence.releaseAfterStep;
    return same ? sequence : undefined;
  }

  #slot(): SimulatedSequence {
    const index = this.#freeSequences.pop() ?? this.sequences.length;
    if (index >= MOST_SEQUENCES) {
      throw new StreamServeError("kv_exhausted", `The KV pool holds ${MOST_SEQUENCES} sequences already.`);
    }
    const epoch = this.sequences[index]?.epoch ?? 1;
    const sequence = emptySequence(index, epoch);
    this.sequences[index] = sequence;
    return sequence;
  }

  // Later blocks go first: of a cached chain the end gives way before the beginning.
  #trim(sequence: SimulatedSequence, blocks: number): void {
    while (sequence.blocks.length > blocks) this.blocks.drop(sequence.blocks.pop() as number);
  }

  #retire(sequence: SimulatedSequence): void {
    this.#trim(sequence, 0);
    sequence.live = false;
    sequence.epoch++;
    sequence.tokens = [];
    this.#freeSequences.push(sequence.index);
  }
}

function emptySequence(index: number, epoch: number): SimulatedSequence {
  return {
    index,
    epoch,
    live: false,
    owner: NO_LANE,
    heir: NO_LANE,
    stranded: false,
    inStep: false,
    releaseAfterStep: false,
    tokens: [],
    blocks: [],
    hashedBlocks: 0,
    chain: 0,
    foundBlocks: 0,
    outputFrom: 0,
    sampling: GREEDY,
    digest: 0,
  };
}

function stale(handle: SequenceHandle, why: string): StreamServeError {
  return new StreamServeError("stale_handle", `Sequence ${handle.index} (epoch ${handle.epoch}) ${why}.`);
}
