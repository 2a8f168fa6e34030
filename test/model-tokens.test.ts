import { readFileSync } from "node:fs";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { TextCodec } from "../dist/model/model.js";
import { resolveModel } from "../dist/model/resolve.js";
import { openTextCodec } from "../dist/model/text-codec.js";

/** Text to token ids and back, against ids that transformers made from the same file. */

interface TokensCase {
  readonly text: string;
  readonly ids: readonly number[];
}

interface GreedyCase {
  readonly set: string;
  readonly question_id: number;
  readonly prompt_ids: readonly number[];
  readonly output_ids: readonly number[];
  readonly text: string;
}

const fixture = <T>(name: string): T =>
  JSON.parse(readFileSync(new URL(`fixtures/oracle/${name}`, import.meta.url), "utf8"));

function benchPrompt(set: string, question: number): string {
  const lines = readFileSync(new URL(`../bench/data/${set}.jsonl`, import.meta.url), "utf8")
    .trim()
    .split("\n");
  const row = lines.map((line) => JSON.parse(line)).find((found) => found.question_id === question);
  return row.turns[0];
}

let codec: TextCodec;

beforeAll(async () => {
  codec = await openTextCodec(await resolveModel("smollm2-135m-instruct"));
});

afterAll(() => codec.close());

function bytesOf(ids: Iterable<number>): Buffer {
  return Buffer.concat(Array.from(ids, (id) => codec.tokenBytes(id)));
}

/** Control characters that the vocabulary has no tokens for; it lacks those of planes 4 to 11 too. */
const UNSPELLABLE = new Set([0x04, 0x06, 0x13, 0x14, 0x16, 0x1d]);

function isSpellable(character: string): boolean {
  const point = character.codePointAt(0) ?? 0;
  return !UNSPELLABLE.has(point) && !(point >= 0x40000 && point < 0xc0000);
}

const spellable = fc
  .string({ unit: "binary", maxLength: 300 })
  .map((text) => Array.from(text, (character) => (isSpellable(character) ? character : "x")).join(""));

describe("encoding", () => {
  test("gives the oracle's ids for every string, special tokens included", async () => {
    for (const { text, ids } of fixture<TokensCase[]>("tokens.json")) {
      expect([...(await codec.encode(text, true))], JSON.stringify(text)).toEqual(ids);
    }
  });

  test("gives the oracle's ids for chats through the file's template", async () => {
    for (const { set, question_id, prompt_ids } of fixture<GreedyCase[]>("greedy.json")) {
      const ids = await codec.encodeChat([{ role: "user", content: benchPrompt(set, question_id) }]);
      expect([...ids], `${set} ${question_id}`).toEqual(prompt_ids);
    }
  });

  test("keeps every byte of the text, whatever the text", async () => {
    await fc.assert(
      fc.asyncProperty(spellable, async (text) => {
        expect(bytesOf(await codec.encode(text, false)).toString("utf8")).toBe(text);
      }),
      { numRuns: 300 },
    );
  });

  test("gives the same ids for a long text as for its paragraphs one by one", async () => {
    const word = fc.stringMatching(/^[a-zé0-9]{1,9}[.,!?]? ?[a-z]$/u);
    const paragraph = fc.array(word, { minLength: 50, maxLength: 80 }).map((words) => words.join(" "));
    await fc.assert(
      fc.asyncProperty(fc.array(paragraph, { minLength: 60, maxLength: 70 }), async (paragraphs) => {
        const whole = await codec.encode(paragraphs.join("\n"), false);
        const parts = paragraphs.map((text, at) => codec.encode(at === 0 ? text : `\n${text}`, false));
        expect([...whole]).toEqual((await Promise.all(parts)).flatMap((ids) => [...ids]));
      }),
      { numRuns: 4 },
    );
  });

  test("takes special tokens for text when asked to", async () => {
    const ids = await codec.encode("<|im_end|>", false);
    expect(ids.length).toBeGreaterThan(1);
    expect(bytesOf(ids).toString("utf8")).toBe("<|im_end|>");
    expect([...(await codec.encode("a<|im_end|>", true))].at(-1)).toBe(2);
  });

  test("encodes in order when many ask at once", async () => {
    const texts = Array.from({ length: 64 }, (_, at) => `prompt number ${at}`);
    const alone = [];
    for (const text of texts) {
      alone.push([...(await codec.encode(text, true))]);
    }
    const together = await Promise.all(texts.map((text) => codec.encode(text, true)));
    expect(together.map((ids) => [...ids])).toEqual(alone);
  });
});

describe("decoding", () => {
  test("spells the oracle's continuations", () => {
    for (const { output_ids, text } of fixture<GreedyCase[]>("greedy.json")) {
      const spelled = output_ids.map((id) => (id === 2 ? codec.tokenText(id) : bytesOf([id])));
      expect(Buffer.concat(spelled.map((part) => Buffer.from(part))).toString("utf8")).toBe(text);
    }
  });

  test("special tokens have a text but no bytes, and end turns", () => {
    expect(codec.tokenBytes(2)).toHaveLength(0);
    expect(codec.tokenText(2)).toBe("<|im_end|>");
    expect(codec.stopIds).toContain(2);
  });

  test("refuses an id outside the vocabulary", () => {
    expect(() => codec.tokenBytes(codec.vocabulary)).toThrow(/outside a vocabulary/);
  });
});

describe("text that can't be encoded", () => {
  test.each([
    ["half a surrogate pair", "a\ud800b", "invalid_utf8"],
    ["a control character the vocabulary lacks", "a\u0004b", "invalid_parameter"],
    ["a character of an unassigned plane", "\u{50000}", "invalid_parameter"],
    ["a prompt of megabytes", "word ".repeat(800_000), "prompt_too_long"],
    ["a word of megabytes", "a".repeat(4_000_000), "prompt_too_long"],
  ])("%s is refused with a code", async (_name, text, code) => {
    await expect(codec.encode(text, true)).rejects.toMatchObject({ code });
    await expect(codec.encodeChat([{ role: "user", content: text }])).rejects.toMatchObject({ code });
  });

  test("no messages are refused", async () => {
    await expect(codec.encodeChat([])).rejects.toMatchObject({ code: "invalid_request" });
  });

  test("a closed codec says so", async () => {
    const other = await openTextCodec(await resolveModel("smollm2-135m-instruct"));
    await other.close();
    await expect(other.encode("late", true)).rejects.toMatchObject({ code: "draining" });
  });
});
