import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { GREEDY } from "../dist/engine/engine.js";
import { NO_BLOCK, PrefixIndex } from "../dist/engine/prefix-index.js";
import { ageBucket } from "../dist/engine/reuse-model.js";
import { SimulatedPool } from "../dist/engine/simulated-pool.js";

const BLOCK = 4;
/** As the native layout's default. */
const ATTENTION = 4096;

/** A prompt whose block b is made of ids[b], and one token more. */
const promptOf = (ids: readonly number[]) => [...ids.flatMap((id) => Array<number>(BLOCK).fill(id)), 0];

/** Computes a whole prompt, as a lane would. Returns how many blocks were found. */
function serve(pool: SimulatedPool, ids: readonly number[], salt = 0): number {
  const prompt = promptOf(ids);
  const sequence = pool.create(0, prompt, prompt.length, GREEDY, salt);
  const found = sequence.blocks.length;
  const rest = prompt.slice(sequence.tokens.length);
  pool.grow([{ sequence, tokens: rest.length }]);
  sequence.tokens.push(...rest);
  pool.settle(sequence);
  pool.release(0, sequence);
  return found;
}

describe("the prefix cache", () => {
  it("does what the native one does on the same trace", () => {
    // src/native/test/kv_prefix_test.cpp has the same trace and the same figures.
    const pool = new SimulatedPool(96, BLOCK, ATTENTION);
    let state = 12345;
    const draw = (below: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return (state >>> 8) % below;
    };
    const chats: number[][] = Array.from({ length: 12 }, () => []);
    let next = 1000;
    for (let request = 0; request < 3000; request++) {
      const kind = draw(10);
      if (kind < 5) {
        const which = draw(12);
        let chat = chats[which]!;
        if (chat.length === 0 || chat.length > 20) chat = [1, 2];
        chat.push(next++, next++);
        chats[which] = chat;
        serve(pool, chat);
      } else if (kind < 8) serve(pool, [10 + draw(6), 20, 21, next++]);
      else
        serve(
          pool,
          Array.from({ length: 12 }, () => next++),
        );
    }
    expect(pool.counts()).toMatchObject({ prefixHits: 11674, prefixMisses: 18234 });
  });

  it("keeps what comes again and again through a sweep of what never does", () => {
    const pool = new SimulatedPool(64, BLOCK, ATTENTION);
    const shared = [1, 2, 3, 4, 5, 6, 7, 8];
    let next = 100;
    let found = 0;
    for (let round = 0; round < 400; round++) {
      for (let i = 0; i < 9; i++)
        serve(
          pool,
          Array.from({ length: 8 }, () => next++),
        );
      if (serve(pool, shared) === 8 && round >= 200) found++;
    }
    expect(found).toBeGreaterThanOrEqual(190);
  });

  it("shares nothing between salts", () => {
    const pool = new SimulatedPool(64, BLOCK, ATTENTION);
    expect([serve(pool, [1, 2], 7), serve(pool, [1, 2], 8), serve(pool, [1, 2])]).toEqual([0, 0, 0]);
    expect([serve(pool, [1, 2], 7), serve(pool, [1, 2])]).toEqual([2, 2]);
  });

  it("gives up idle leaves alone, whatever was held, extended and let go", () => {
    const operation = fc.record({ hold: fc.boolean(), pick: fc.nat(1000) });
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 200 }), (operations) => {
        const blocks = 10;
        const index = new PrefixIndex({ blocks, blockTokens: BLOCK, attentionTokens: 64 });
        const parent = new Map<number, number>();
        const holders = new Map<number, number>();
        const free = Array.from({ length: blocks }, (_, i) => i);
        const ends: number[] = [];
        const path = (from: number, each: (block: number) => void) => {
          for (let block = from; block !== NO_BLOCK; block = parent.get(block)!) each(block);
        };
        const letGo = (from: number) =>
          path(from, (block) => {
            holders.set(block, holders.get(block)! - 1);
            if (holders.get(block) === 0) index.release(block);
          });
        let chain = 1;
        for (const { hold, pick } of operations) {
          if (!hold && ends.length > 0) {
            letGo(ends.splice(pick % ends.length, 1)[0]!);
            continue;
          }
          const nodes = [...parent.keys()];
          const above = pick % 3 === 0 || nodes.length === 0 ? NO_BLOCK : nodes[pick % nodes.length]!;
          path(above, (block) => {
            index.reuse(block, holders.get(block) === 0);
            holders.set(block, holders.get(block)! + 1);
          });
          const idle = [...holders.values()].filter((count) => count === 0).length;
          expect(index.idle).toBe(idle);
          const block = free.pop() ?? index.evict();
          expect(block === NO_BLOCK).toBe(idle === 0 && parent.size === blocks);
          if (block === NO_BLOCK) {
            letGo(above);
            continue;
          }
          if (parent.has(block)) {
            expect(holders.get(block)).toBe(0);
            expect([...parent.values()]).not.toContain(block);
            expect(index.has(block)).toBe(false);
            parent.delete(block);
          }
          index.insert(block, chain++, above, true);
          parent.set(block, above);
          holders.set(block, 1);
          ends.push(block);
        }
      }),
      { numRuns: 300 },
    );
  });

  it("tells ages apart by octave and half, in order", () => {
    fc.assert(
      fc.property(fc.nat(1 << 24), fc.nat(1 << 24), (a, b) => {
        const [young, old] = [Math.min(a, b), Math.max(a, b)];
        expect(ageBucket(young)).toBeLessThanOrEqual(ageBucket(old));
        if (old + 2 >= 2 * (young + 2) && old < 0x7ffffe) {
          expect(ageBucket(old)).toBeGreaterThan(ageBucket(young));
        }
      }),
    );
    expect([0, 1, 2, 3, 4, 6].map(ageBucket)).toEqual([0, 1, 2, 2, 3, 4]);
  });
});
