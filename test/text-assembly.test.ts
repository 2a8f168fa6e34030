import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { StopMatcher } from "../dist/gateway/stop-strings.js";
import { TextAssembler } from "../dist/gateway/text-assembler.js";
import type { TextCodec } from "../dist/model/model.js";
import { resolveModel } from "../dist/model/resolve.js";
import { openTextCodec } from "../dist/model/text-codec.js";

/** Tokens to text, with the model's own tokenizer: the layer below every door. */

let codec: TextCodec;

beforeAll(async () => {
  codec = await openTextCodec(await resolveModel("smollm2-135m-instruct"));
});

afterAll(() => codec.close());

interface Shown {
  readonly texts: string[];
  readonly tokens: number;
  readonly logprobs: { readonly token: string; readonly offset: number }[];
  readonly stopped: boolean;
}

/** Feeds `ids` in pieces of the given sizes, over and over. */
function assemble(
  ids: Uint32Array,
  sizes: readonly number[],
  stops: readonly string[],
  logprobs = false,
): Shown {
  const assembler = new TextAssembler(codec, stops, codec.stopIds);
  const texts: string[] = [];
  const entries: { token: string; offset: number }[] = [];
  let tokens = 0;
  for (let at = 0, turn = 0; at < ids.length && !assembler.stopped; turn++) {
    const piece = ids.slice(at, at + sizes[turn % sizes.length]!);
    const shown = assembler.push({
      index: at,
      ids: piece,
      logprobs: logprobs ? new Float32Array(piece.length) : new Float32Array(0),
      topIds: new Uint32Array(0),
      topLogprobs: new Float32Array(0),
    });
    texts.push(shown.text);
    entries.push(...shown.logprobs);
    tokens += shown.tokens;
    at += piece.length;
  }
  const rest = assembler.finish();
  texts.push(rest.text);
  entries.push(...rest.logprobs);
  return { texts, tokens, logprobs: entries, stopped: assembler.stopped };
}

/** Letters that the vocabulary spells, emoji of several tokens a character among them. */
const unit = fc.constantFrom(..."ab \n.é你🙂🏳️‍🌈\u{1F9FF}𓀀".split(/(?:)/u));
const text = fc.string({ unit, maxLength: 60 });
const sizes = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 4 });

describe("text from tokens", () => {
  test("is the text that was encoded, whatever the pieces, and never ends inside a character", async () => {
    await fc.assert(
      fc.asyncProperty(text, sizes, async (written, pieces) => {
        const { texts } = assemble(await codec.encode(written, false), pieces, []);
        expect(texts.join("")).toBe(written);
        for (const piece of texts) expect(piece.isWellFormed()).toBe(true);
      }),
      { numRuns: 60 },
    );
  });

  test("shows U+FFFD for half a character at the end alone", async () => {
    const ids = await codec.encode("ab\u{1F9FF}", false);
    const { texts } = assemble(ids.slice(0, -1), [1], []);
    expect(texts.slice(0, -1).join("")).toBe("ab");
    expect(texts.at(-1)).toMatch(/^\uFFFD+$/);
  });

  test("places each token's log-probability at the text it begins", async () => {
    await fc.assert(
      fc.asyncProperty(text, sizes, async (written, pieces) => {
        const ids = await codec.encode(written, false);
        const { logprobs } = assemble(ids, pieces, [], true);
        expect(logprobs.map(({ token }) => token)).toEqual(Array.from(ids, (id) => codec.tokenText(id)));
        let bytes = 0;
        const all = Buffer.from(written);
        logprobs.forEach(({ offset }, i) => {
          // Characters that are whole before this token's first byte.
          const before = new TextDecoder().decode(all.subarray(0, bytes), { stream: true });
          expect(offset).toBe(before.length);
          bytes += codec.tokenBytes(ids[i]!).length;
        });
      }),
      { numRuns: 60 },
    );
  });

  test("ends before the stop string that is complete first, whatever the pieces", async () => {
    const stops = fc.array(fc.string({ unit, minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(text, stops, sizes, async (written, strings, pieces) => {
        const ids = await codec.encode(written, false);
        const { texts, stopped, logprobs } = assemble(ids, pieces, strings, true);
        const cut = firstComplete(written, strings);
        expect(texts.join("")).toBe(cut < 0 ? written : written.slice(0, cut));
        expect(stopped).toBe(cut >= 0);
        if (cut >= 0) for (const { offset } of logprobs) expect(offset).toBeLessThan(cut);
      }),
      { numRuns: 100 },
    );
  });

  test("holds back no more than what may become a stop string", () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom("a", "b"), maxLength: 40 }), (written) => {
        const matcher = new StopMatcher(["abab", "bba"]);
        if (matcher.push(written) >= 0) return;
        const ends = (stop: string, length: number): boolean => written.endsWith(stop.slice(0, length));
        const longest = ["abab", "bba"].flatMap((stop) =>
          Array.from(stop, (_, i) => (i < stop.length && ends(stop, i) ? i : 0)),
        );
        expect(matcher.undecided).toBe(Math.max(0, ...longest));
      }),
    );
  });
});

/** The plain way: read on, one UTF-16 unit at a time, until a string is complete; of several the longest. */
function firstComplete(written: string, strings: readonly string[]): number {
  for (let end = 1; end <= written.length; end++) {
    const complete = strings.filter((string) => written.slice(0, end).endsWith(string));
    if (complete.length > 0) return end - Math.max(...complete.map(({ length }) => length));
  }
  return -1;
}
