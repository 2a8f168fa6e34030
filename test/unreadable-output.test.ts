import { expect, test } from "vitest";
import { configSchema } from "../dist/config/schema.js";
import { GREEDY } from "../dist/engine/engine.js";
import { PROVISIONAL_CPU } from "../dist/engine/simulated-cost.js";
import { generateText } from "../dist/gateway/generate-text.js";
import type { TextCodec } from "../dist/model/model.js";
import { House } from "../dist/simulate/house.js";

const MODEL = { seed: 5, vocabulary: 64, draftability: 0.5 };

/** A tokenizer that knows fewer tokens than the model draws. */
function codecOf(known: number): TextCodec {
  const word = (id: number): string => {
    if (id >= known) throw new Error(`no token ${id}`);
    return `${id} `;
  };
  return {
    encode: () => Promise.reject(new Error("not asked for")),
    encodeChat: () => Promise.reject(new Error("not asked for")),
    tokenBytes: (id) => new TextEncoder().encode(word(id)),
    tokenText: word,
    vocabulary: known,
    stopIds: [],
    close: () => Promise.resolve(),
  };
}

function open(house: House, codec: TextCodec, seed: number): { text: string; ends: string[] } {
  const stream = { text: "", ends: [] as string[] };
  const request = {
    prompt: Uint32Array.of(1, 2, 3, seed),
    maxTokens: 60,
    sampling: { ...GREEDY, seed },
    class: "interactive",
    deadlineMs: 0,
    credit: Number.POSITIVE_INFINITY,
    stops: [],
  } as const;
  generateText({ service: house.gateway, codec }, request, {
    delta: ({ text }) => {
      stream.text += text;
    },
    done: ({ finish }) => stream.ends.push(finish),
    failed: ({ code }) => stream.ends.push(code),
  });
  return stream;
}

test("a token without text fails its own request alone, and its KV is given back", () => {
  const house = new House({
    config: configSchema.parse({ engine: { kvTokens: 4096 } }),
    model: MODEL,
    cost: PROVISIONAL_CPU,
    contextTokens: 256,
    simulation: { seed: 1 },
  });
  house.simulation.run({ untilMs: 1 });
  const [broken, ...whole] = [40, 64, 64, 64].map((known, i) => open(house, codecOf(known), i + 1));
  house.simulation.run({ untilMs: 20_000 });

  expect(broken!.ends).toEqual(["internal"]);
  expect(whole.map(({ ends }) => ends)).toEqual([["length"], ["length"], ["length"]]);
  for (const { text } of whole) expect(text.trim().split(" ").length).toBe(60);
  expect(house.simulation.restarts).toBe(0);
  expect(house.engine.pool.counts().usedBlocks).toBe(0);
});
