import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { LONG_MIXTURE, mixedTrace, SERVER_MIXTURE } from "../dist/bench/prefix-cache/mixture.js";
import {
  replayByValue,
  replayLru,
  replayLruToldEnds,
  replayOptimum,
  reuseOf,
} from "../dist/bench/prefix-cache/replay.js";
import { parseTraceLine, readTrace, type TraceRequest, traceLine } from "../dist/simulate/serving/trace.js";

const SAMPLE = new URL("../bench/data/trace-sample.jsonl", import.meta.url).pathname;

describe("a trace in Mooncake's format", () => {
  test("is written and read back as it was", () => {
    const whole = fc.nat(1_000_000);
    const request = fc.record({
      atMs: whole,
      inputTokens: whole,
      outputTokens: whole,
      chain: fc.array(whole, { maxLength: 20 }),
    });
    fc.assert(
      fc.property(request, (one) => {
        expect(parseTraceLine(traceLine(one), 1)).toEqual({ ...one });
      }),
    );
  });

  test("says which line is wrong and why, and never anything else", () => {
    const wrong = [
      ["{", /Line 7 .* not JSON/],
      ["null", /Line 7 .* timestamp/],
      ['{"timestamp": -1}', /timestamp/],
      ['{"timestamp": 0, "input_length": 1.5, "output_length": 1, "hash_ids": []}', /input_length/],
      ['{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": [-1]}', /hash_ids/],
    ] as const;
    for (const [line, why] of wrong) expect(() => parseTraceLine(line, 7)).toThrow(why);
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (line) => {
        try {
          parseTraceLine(line, 1);
        } catch (error) {
          expect(String(error)).toMatch(/Line 1 of the trace/);
        }
      }),
    );
  });

  test("the sample is what the generator makes", () => {
    const made = mixedTrace({ ...LONG_MIXTURE, requests: 200, seed: 1 });
    const rounded = made.map((request) => ({ ...request, atMs: Math.round(request.atMs) }));
    expect(readTrace(SAMPLE)).toEqual(rounded);
  });
});

/** Most hits that any choice of what to keep after each request finds: all of them are tried. */
function mostHits(chains: readonly (readonly number[])[], size: number): number {
  const known = new Map<string, number>();
  const best = (at: number, cached: readonly number[]): number => {
    const chain = chains[at];
    if (!chain) return 0;
    const key = `${at}:${cached.join()}`;
    const before = known.get(key);
    if (before !== undefined) return before;
    const missing = chain.findIndex((id) => !cached.includes(id));
    const found = missing < 0 ? chain.length : missing;
    const rest = cached.filter((id) => !chain.includes(id));
    let most = 0;
    for (let choice = 0; choice < 1 << rest.length; choice++) {
      const kept = rest.filter((_, i) => (choice >> i) & 1);
      if (kept.length + chain.length > size) continue;
      const after = [...kept, ...chain].sort((a, b) => a - b);
      most = Math.max(most, best(at + 1, after));
    }
    known.set(key, found + most);
    return found + most;
  };
  return best(0, []);
}

describe("eviction by worth", () => {
  for (const [name, mixture, blocks, share] of [
    ["a server's requests", SERVER_MIXTURE, [1000, 3000], 0.7],
    ["long requests", LONG_MIXTURE, [250, 1000], 0.75],
  ] as const) {
    test(`finds more of ${name} than least recently used, and less than the optimum`, () => {
      const trace = mixedTrace({ ...mixture, requests: 6000, seed: 5 });
      for (const size of blocks) {
        const value = replayByValue(trace, size, mixture.blockTokens, 24_800).hits;
        const optimum = replayOptimum(trace, size).hits;
        expect(value).toBeGreaterThan(replayLru(trace, size).hits);
        expect(value).toBeLessThanOrEqual(optimum);
        expect(value / optimum).toBeGreaterThan(share);
      }
    });
  }

  test("the optimum finds as much as the best of all ways to evict", () => {
    const request = fc.record({ branch: fc.nat(3), length: fc.integer({ min: 1, max: 3 }) });
    fc.assert(
      fc.property(
        fc.array(request, { minLength: 1, maxLength: 9 }),
        fc.integer({ min: 3, max: 5 }),
        (requests, size) => {
          const chains = requests.map(({ branch, length }) =>
            Array.from({ length }, (_, depth) => (depth === 0 ? 0 : 2 * branch + depth)),
          );
          const trace = chains.map((chain) => ({ atMs: 0, inputTokens: 0, outputTokens: 0, chain }));
          expect(replayOptimum(trace, size).hits).toBe(mostHits(chains, size));
        },
      ),
    );
  });

  test("no policy beats the optimum, and a pool for everything finds all that there is", () => {
    const request = fc.record({ branch: fc.nat(4), length: fc.integer({ min: 1, max: 6 }) });
    fc.assert(
      fc.property(
        fc.array(request, { minLength: 1, maxLength: 60 }),
        fc.integer({ min: 6, max: 12 }),
        (requests, size) => {
          const trace: TraceRequest[] = requests.map(({ branch, length }) => ({
            atMs: 0,
            inputTokens: 0,
            outputTokens: 0,
            // Branches share their first block.
            chain: Array.from({ length }, (_, depth) => (depth === 0 ? 0 : 100 * branch + depth)),
          }));
          const { asked, distinct } = reuseOf(trace);
          const optimum = replayOptimum(trace, size).hits;
          expect(optimum).toBeGreaterThanOrEqual(replayLru(trace, size).hits);
          expect(optimum).toBeGreaterThanOrEqual(replayLruToldEnds(trace, size).hits);
          expect(optimum).toBeGreaterThanOrEqual(replayByValue(trace, size, 16, 1000).hits);
          for (const all of [replayOptimum, replayLru, replayLruToldEnds]) {
            expect(all(trace, 1000).hits).toBe(asked - distinct);
          }
          expect(replayByValue(trace, 1000, 16, 1000).hits).toBe(asked - distinct);
        },
      ),
    );
  });
});
