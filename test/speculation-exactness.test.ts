import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ServingRuntime, startRuntime } from "../dist/actors/start.js";
import { configSchema } from "../dist/config/schema.js";
import { GREEDY, type Sampling } from "../dist/engine/engine.js";
import { closeEngine, NativeLane, openEngine } from "../dist/engine/native-engine.js";
import { ModelDirectory, TINY, tinyModel } from "./tiny-model.js";

/** Speculation must change nothing but speed: neither a token, nor how often tokens come. */

const models = new ModelDirectory();
let path: string;

beforeAll(() => {
  path = models.write(tinyModel({ seed: 3 }));
});

afterAll(() => models.dispose());

/** Pearson's statistic over bins of at least 10 expected counts, and its bins. */
function chiSquare(counts: readonly number[], logprobs: ArrayLike<number>) {
  const total = counts.reduce((sum, count) => sum + count, 0);
  let statistic = 0;
  let bins = 0;
  let rest = { expected: 0, count: 0 };
  const add = (expected: number, count: number) => {
    statistic += (count - expected) ** 2 / expected;
    bins++;
  };
  counts.forEach((count, token) => {
    const expected = total * Math.exp(logprobs[token]!);
    if (expected >= 10) add(expected, count);
    else rest = { expected: rest.expected + expected, count: rest.count + count };
  });
  if (rest.expected >= 10) add(rest.expected, rest.count);
  return { statistic, bins, total };
}

/** What the statistic stays below with probability 1 - 10^-4 (Wilson and Hilferty's approximation). */
function limitOf(bins: number): number {
  const freedom = bins - 1;
  const z = 3.719;
  return freedom * (1 - 2 / (9 * freedom) + z * Math.sqrt(2 / (9 * freedom))) ** 3;
}

const PROMPT = Uint32Array.of(5, 17, 60, 2);

/** What the model says of the two tokens after the prompt: the second after `draft`, the likeliest first. */
function distributions(lane: NativeLane) {
  const at = (ids: readonly number[]) => lane.score(Uint32Array.from(ids), ids.length - 1);
  const first = at([...PROMPT]);
  const draft = first.indexOf(Math.max(...first));
  return { draft, first, second: at([...PROMPT, draft]) };
}

describe("sampled draws", () => {
  test("100,000 with drafts are distributed as the model says, after drafts that held too", () => {
    const rows = 50;
    const engine = openEngine({ path, kvTokens: 4096 });
    const lane = new NativeLane({ engine, lane: 0, role: "decode", maxRows: rows, maxBatchTokens: 256 });
    try {
      // The likeliest token as the draft: it holds often, and what follows it is drawn in the same step.
      const { draft, first, second } = distributions(lane);
      const firsts = new Array<number>(TINY.vocabulary).fill(0);
      const seconds = new Array<number>(TINY.vocabulary).fill(0);
      let accepted = 0;
      for (let seed = 0; seed < 100_000; seed += rows) {
        const batch = Array.from({ length: rows }, (_, row) => {
          const sampling: Sampling = { ...GREEDY, temperature: 1, seed: seed + row };
          const { handle } = lane.createSequence(PROMPT, PROMPT.length, sampling);
          return { sequence: handle, tokens: Uint32Array.of(...PROMPT, draft), drafts: 1, sample: true };
        });
        const result = lane.submit(batch).collect();
        for (const { tokens, accepted: held } of result.rows) {
          firsts[tokens[0]!]!++;
          accepted += held;
          if (held === 1) seconds[tokens[1]!]!++;
        }
        for (const { sequence } of batch) lane.release(sequence);
      }
      expect(accepted).toBe(firsts[draft]);
      for (const [counts, logprobs] of [
        [firsts, first],
        [seconds, second],
      ] as const) {
        const { statistic, bins, total } = chiSquare(counts, logprobs);
        expect(total).toBeGreaterThan(1000);
        expect(bins).toBeGreaterThan(20);
        expect(statistic).toBeLessThan(limitOf(bins));
      }
      // The statistic can fail: against the wrong distribution it does.
      const { statistic, bins } = chiSquare(firsts, second);
      expect(statistic).toBeGreaterThan(limitOf(bins));
    } finally {
      lane.close();
      closeEngine(engine.id);
    }
  });
});

describe("sampled draws that a draft model guesses", () => {
  test("100,000 are distributed as the model says, after guesses that held too", () => {
    const rows = 50;
    const engine = openEngine({ path, kvTokens: 4096 });
    const other = openEngine({ path: models.write(tinyModel({ seed: 4 })), kvTokens: 4096 });
    const options = { lane: 0, role: "decode", maxRows: rows, maxBatchTokens: 256 } as const;
    const lane = new NativeLane({ ...options, engine, draft: other });
    const drafter = lane.draft!;
    try {
      const { draft, first, second } = distributions(lane);
      const firsts = new Array<number>(TINY.vocabulary).fill(0);
      const seconds = new Array<number>(TINY.vocabulary).fill(0);
      let accepted = 0;
      for (let seed = 0; seed < 100_000; seed += rows) {
        const how = Array.from({ length: rows }, (_, row) => ({
          ...GREEDY,
          temperature: 1,
          seed: seed + row,
        }));
        // The draft model draws with the same noise as the model: its guesses go with what the model will draw.
        const ahead = how.map((sampling) => drafter.createSequence(PROMPT, PROMPT.length, sampling).handle);
        const guessing = ahead.map((sequence) => ({ sequence, tokens: PROMPT, drafts: 0, sample: true }));
        const guesses = drafter
          .submit(guessing)
          .collect()
          .rows.map(({ tokens }) => tokens[0]!);
        const batch = how.map((sampling, row) => {
          const { handle } = lane.createSequence(PROMPT, PROMPT.length, sampling);
          return {
            sequence: handle,
            tokens: Uint32Array.of(...PROMPT, guesses[row]!),
            drafts: 1,
            sample: true,
          };
        });
        lane
          .submit(batch)
          .collect()
          .rows.forEach(({ tokens, accepted: held }) => {
            firsts[tokens[0]!]!++;
            accepted += held;
            if (held === 1 && tokens[0] === draft) seconds[tokens[1]!]!++;
          });
        for (const { sequence } of batch) lane.release(sequence);
        for (const sequence of ahead) drafter.release(sequence);
      }
      // More than the two distributions alone would make agree.
      expect(accepted).toBeGreaterThan(5000);
      for (const [counts, logprobs] of [
        [firsts, first],
        [seconds, second],
      ] as const) {
        const { statistic, bins, total } = chiSquare(counts, logprobs);
        expect(total).toBeGreaterThan(500);
        expect(bins).toBeGreaterThan(10);
        expect(statistic).toBeLessThan(limitOf(bins));
      }
    } finally {
      lane.close();
      closeEngine(other.id);
      closeEngine(engine.id);
    }
  });
});

describe("answers through the actors", () => {
  async function answers(speculation: object): Promise<{ texts: string[]; accepted: number }> {
    const config = configSchema.parse({
      model: path,
      engine: { kvTokens: 4096, threads: 2 },
      stepCost: { calibrateMs: 20 },
      speculation,
    });
    const runtime = await startRuntime(config, path);
    try {
      const all = await Promise.all(
        Array.from({ length: 12 }, (_, i) => {
          // Half of them greedy, half sampled; prompts that repeat themselves, so that there is something to draft.
          const prompt = Uint32Array.from({ length: 24 + i }, (_, at) => (at * (i + 1)) % (7 + i));
          const sampling = i % 2 === 0 ? GREEDY : { ...GREEDY, temperature: 0.5, topP: 0.9, seed: i };
          return generate(runtime, prompt, sampling);
        }),
      );
      return {
        texts: all.map(({ ids }) => ids.join()),
        accepted: all.reduce((sum, one) => sum + one.accepted, 0),
      };
    } finally {
      await runtime.stop();
    }
  }

  function generate({ service }: ServingRuntime, prompt: Uint32Array, sampling: Sampling) {
    return new Promise<{ ids: number[]; accepted: number }>((resolve, reject) => {
      const ids: number[] = [];
      service.generate(
        {
          prompt,
          maxTokens: 150,
          sampling,
          class: "interactive",
          deadlineMs: 0,
          credit: Number.POSITIVE_INFINITY,
        },
        {
          tokens: (delivered) => ids.push(...delivered.ids),
          done: ({ acceptedTokens }) => resolve({ ids, accepted: acceptedTokens }),
          failed: reject,
        },
      );
    });
  }

  test("are the same tokens at any depth, greedy and sampled, side by side", async () => {
    const plain = await answers({ maxDepth: 0 });
    expect(plain.accepted).toBe(0);
    for (const speculation of [{}, { maxDepth: 8, fixedDepth: 8 }, { maxDepth: 3, fixedDepth: 3 }]) {
      const speculated = await answers(speculation);
      expect(speculated.texts).toEqual(plain.texts);
      if ("fixedDepth" in speculation) expect(speculated.accepted).toBeGreaterThan(100);
    }
  });
});
