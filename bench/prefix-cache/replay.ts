import { NO_BLOCK, PrefixIndex } from "#streamserve/engine/prefix-index.js";
import type { TraceRequest } from "#streamserve/simulate/serving/trace.js";

/** Blocks that a trace asks for, and how many of them a cache without bounds would find. */
export function reuseOf(trace: readonly TraceRequest[]): { asked: number; distinct: number } {
  const seen = new Set<number>();
  let asked = 0;
  for (const { chain } of trace) {
    asked += chain.length;
    for (const id of chain) seen.add(id);
  }
  return { asked, distinct: seen.size };
}

/** What came of a trace under a policy of eviction. */
export interface ReplayResult {
  /** Prompt blocks asked for, and those found. */
  readonly asked: number;
  readonly hits: number;
  readonly evictions: number;
  /** Time of the policy's own work, in microseconds a block asked for. */
  readonly usPerBlock: number;
}

/** A cache of prefix blocks as the replay uses it: a request's blocks are asked for in order, then let go. */
interface Cache {
  /** Leading blocks of `chain` that are there. */
  serve(chain: readonly number[]): number;
  readonly evictions: number;
}

/** Plays a trace request by request, each one done before the next, on a cache of `blocks` blocks. */
function replay(trace: readonly TraceRequest[], blocks: number, cache: Cache): ReplayResult {
  let asked = 0;
  let hits = 0;
  const startedAt = performance.now();
  trace.forEach(({ chain }) => {
    // A request that does not fit the pool can't be served by it.
    if (chain.length > blocks) return;
    asked += chain.length;
    hits += cache.serve(chain);
  });
  const ms = performance.now() - startedAt;
  return { asked, hits, evictions: cache.evictions, usPerBlock: (ms * 1000) / asked };
}

/** The product's own index and eviction (src/engine/prefix-index.ts). */
export function replayByValue(
  trace: readonly TraceRequest[],
  blocks: number,
  blockTokens: number,
  attentionTokens: number,
): ReplayResult {
  const index = new PrefixIndex({ blocks, blockTokens, attentionTokens });
  const free = Array.from({ length: blocks }, (_, i) => blocks - 1 - i);
  return replay(trace, blocks, {
    get evictions() {
      return index.evictions;
    },
    serve(chain) {
      const held: number[] = [];
      let found = 0;
      for (; found < chain.length; found++) {
        const block = index.find(chain[found]!);
        if (block === undefined) break;
        index.reuse(block, true);
        held.push(block);
      }
      for (let at = found; at < chain.length; at++) {
        const block = free.pop() ?? index.evict();
        if (block === NO_BLOCK) throw new Error("no block is idle");
        index.insert(block, chain[at]!, held.at(-1) ?? NO_BLOCK, at === found);
        held.push(block);
      }
      for (let at = held.length; at-- > 0; ) index.release(held[at]!);
      return found;
    },
  });
}

/** Least recently used, the end of a chain first: what this engine did before, and vLLM does. */
export function replayLru(trace: readonly TraceRequest[], blocks: number): ReplayResult {
  return replayRecency(trace, blocks, () => true);
}

/**
 * Least recently used that is told which blocks nobody asks for again, and lets these go first: what it would be worth
 * to know when conversations end, and nothing else of the future.
 */
export function replayLruToldEnds(trace: readonly TraceRequest[], blocks: number): ReplayResult {
  const asks = new Map<number, number>();
  for (const { chain } of trace) {
    if (chain.length > blocks) continue;
    for (const id of chain) asks.set(id, (asks.get(id) ?? 0) + 1);
  }
  return replayRecency(trace, blocks, (id) => {
    const left = asks.get(id)! - 1;
    asks.set(id, left);
    return left > 0;
  });
}

/** Least recently used, but first those blocks that `returns`, asked as one is served, says no of. */
function replayRecency(
  trace: readonly TraceRequest[],
  blocks: number,
  returns: (id: number) => boolean,
): ReplayResult {
  // A Map keeps the order of insertion: oldest first.
  const cached = new Map<number, true>();
  const over = new Map<number, true>();
  let evictions = 0;
  return replay(trace, blocks, {
    get evictions() {
      return evictions;
    },
    serve(chain) {
      let found = 0;
      while (found < chain.length && cached.has(chain[found]!)) found++;
      for (let at = 0; at < found; at++) cached.delete(chain[at]!);
      const room = blocks - chain.length;
      for (const kept of [over, cached]) {
        for (const id of kept.keys()) {
          if (over.size + cached.size <= room) break;
          kept.delete(id);
          evictions++;
        }
      }
      for (let at = chain.length; at-- > 0; ) {
        const id = chain[at]!;
        (returns(id) ? cached : over).set(id, true);
      }
      return found;
    },
  });
}

/**
 * The offline optimum: evicts the block that will be asked for last (Belady, 1966). A child is never asked for
 * before its parent; of those that the same request will ask for, the deepest goes first.
 */
export function replayOptimum(trace: readonly TraceRequest[], blocks: number): ReplayResult {
  const uses = new Map<number, number[]>();
  trace.forEach(({ chain }, at) => {
    if (chain.length > blocks) return;
    for (const id of chain) {
      const list = uses.get(id);
      if (list) list.push(at);
      else uses.set(id, [at]);
    }
  });
  const taken = new Map<number, number>();
  /** Next use of each cached block, and for each request the blocks that it may be the next to use, children last. */
  const nextUse = new Map<number, number>();
  const byNext: number[][] = Array.from({ length: trace.length + 1 }, () => []);
  const depth = new Map<number, number>();
  const unsorted = new Uint8Array(trace.length + 1);
  let latest = trace.length;
  let evictions = 0;
  return replay(trace, blocks, {
    get evictions() {
      return evictions;
    },
    serve(chain) {
      let found = 0;
      while (found < chain.length && nextUse.has(chain[found]!)) found++;
      for (const id of chain) nextUse.delete(id);
      while (nextUse.size > blocks - chain.length) {
        const last = byNext[latest]!;
        // Of those never asked for again the order is all one.
        if (unsorted[latest] && latest < trace.length) last.sort((a, b) => depth.get(a)! - depth.get(b)!);
        unsorted[latest] = 0;
        const id = last.pop();
        if (id === undefined) latest--;
        else if (nextUse.get(id) === latest) {
          nextUse.delete(id);
          evictions++;
        }
      }
      chain.forEach((id, at) => {
        depth.set(id, at);
        const turn = (taken.get(id) ?? 0) + 1;
        taken.set(id, turn);
        const next = uses.get(id)![turn] ?? trace.length;
        nextUse.set(id, next);
        byNext[next]!.push(id);
        unsorted[next] = 1;
        latest = Math.max(latest, next);
      });
      return found;
    },
  });
}
