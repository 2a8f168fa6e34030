import { readFileSync } from "node:fs";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { TextAssembler } from "../dist/gateway/text-assembler.js";
import type { TextCodec } from "../dist/model/model.js";
import { openTextCodec } from "../dist/model/text-codec.js";
import { type GgufValue, ggufFile } from "./gguf-file.js";
import { ModelDirectory } from "./tiny-model.js";

/**
 * Every kind of tokenizer against the ids that Hugging Face's tokenizers and sentencepiece give
 * (fixtures/tokenizers/make.py), and bytes that never become broken text.
 */

interface ByteLevel {
  readonly tokens: readonly string[];
  readonly merges: readonly string[];
  readonly texts: readonly string[];
  readonly ids: Readonly<Record<string, readonly (readonly number[])[]>>;
}

interface SentencePiece {
  readonly tokens: readonly string[];
  readonly scores: readonly number[];
  readonly types: readonly number[];
  readonly prefix: boolean;
  readonly texts: readonly string[];
  readonly ids: readonly (readonly number[])[];
  readonly special_texts: readonly string[];
  readonly special_ids: readonly (readonly number[])[];
}

const fixture = <T>(name: string): T =>
  JSON.parse(readFileSync(new URL(`fixtures/tokenizers/${name}.json`, import.meta.url), "utf8"));

const directory = new ModelDirectory();
const codecs: TextCodec[] = [];
afterAll(async () => {
  for (const codec of codecs) await codec.close();
  directory.dispose();
});

type Header = Record<string, GgufValue>;
const text = (value: string): GgufValue => ({ type: "string", value });
const flag = (value: boolean): GgufValue => ({ type: "bool", value });
const u32 = (value: number): GgufValue => ({ type: "u32", value });

async function open(header: Header): Promise<TextCodec> {
  const codec = await openTextCodec(
    directory.write(
      ggufFile({ "general.architecture": text("llama"), "llama.context_length": u32(16_384), ...header }, []),
    ),
  );
  codecs.push(codec);
  return codec;
}

const byteLevel = fixture<ByteLevel>("byte-level");

const byteLevelHeader = (pre: string): Header => ({
  "tokenizer.ggml.model": text("gpt2"),
  "tokenizer.ggml.pre": text(pre),
  "tokenizer.ggml.tokens": { type: "strings", value: byteLevel.tokens },
  "tokenizer.ggml.merges": { type: "strings", value: byteLevel.merges },
  "tokenizer.ggml.add_bos_token": flag(false),
});

const KINDS = { merges: "llama", gemma: "llama", unigram: "t5" } as const;
type Kind = keyof typeof KINDS;

function sentencePieceHeader(kind: Kind, changes: Header = {}): Header {
  const { tokens, scores, types, prefix } = fixture<SentencePiece>(kind);
  return {
    "tokenizer.ggml.model": text(KINDS[kind]),
    "tokenizer.ggml.tokens": { type: "strings", value: tokens },
    "tokenizer.ggml.scores": { type: "f32s", value: scores },
    "tokenizer.ggml.token_type": { type: "i32s", value: types },
    "tokenizer.ggml.add_space_prefix": flag(prefix),
    "tokenizer.ggml.bos_token_id": u32(tokens.indexOf("<s>")),
    "tokenizer.ggml.eos_token_id": u32(tokens.indexOf("</s>")),
    "tokenizer.ggml.add_bos_token": flag(false),
    ...changes,
  };
}

const bytesOf = (codec: TextCodec, ids: Iterable<number>): Buffer =>
  Buffer.concat(Array.from(ids, (id) => codec.tokenBytes(id)));

describe.each(Object.keys(byteLevel.ids))("byte-level, text cut as %s", (pre) => {
  test("gives the ids of Hugging Face's tokenizers, and they spell the text", async () => {
    const codec = await open(byteLevelHeader(pre));
    for (const [i, given] of byteLevel.texts.entries()) {
      const ids = await codec.encode(given, true);
      expect([...ids], JSON.stringify(given)).toEqual(byteLevel.ids[pre]![i]);
      expect(bytesOf(codec, ids).toString("utf8")).toBe(given);
    }
  });
});

describe.each(Object.keys(KINDS) as Kind[])("sentencepiece, %s", (kind) => {
  const expected = fixture<SentencePiece>(kind);

  test("gives sentencepiece's ids", async () => {
    const codec = await open(sentencePieceHeader(kind));
    for (const [i, given] of expected.texts.entries()) {
      expect([...(await codec.encode(given, false))], JSON.stringify(given)).toEqual(expected.ids[i]);
    }
  });

  test("gives them between special tokens in text", async () => {
    const codec = await open(sentencePieceHeader(kind));
    for (const [i, given] of expected.special_texts.entries()) {
      expect([...(await codec.encode(given, true))], JSON.stringify(given)).toEqual(expected.special_ids[i]);
    }
  });

  test("keeps every byte of any text", async () => {
    const codec = await open(sentencePieceHeader(kind));
    const anything = fc.string({ unit: "binary", minLength: 1, maxLength: 200 });
    await fc.assert(
      fc.asyncProperty(anything, async (given) => {
        const spelled = bytesOf(codec, await codec.encode(given, false)).toString("utf8");
        const shown = given.replaceAll("\u2581", " ");
        expect(spelled).toBe(expected.prefix ? ` ${shown}` : shown);
      }),
      { numRuns: 200 },
    );
  });

  test("gives the same ids for a long text as for its words", async () => {
    const codec = await open(sentencePieceHeader(kind));
    const long = "The quick brown fox 42 jumps. ".repeat(700).trimEnd();
    const once = [...(await codec.encode("The quick brown fox 42 jumps.", false))];
    const again = [...(await codec.encode("x The quick brown fox 42 jumps.", false))].slice(
      (await codec.encode("x", false)).length,
    );
    const repeated = Array.from({ length: 699 }, () => again).flat();
    expect([...(await codec.encode(long, false))]).toEqual([...once, ...repeated]);
  });

  test("shows no broken characters, however its bytes are cut into tokens and steps", async () => {
    const codec = await open(sentencePieceHeader(kind));
    const given = "né 你好 👩‍👩‍👧‍👦 🇩🇪 \u0301 end";
    const byteIds = Array.from(Buffer.from(given), (byte) =>
      expected.tokens.indexOf(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`),
    );
    for (const ids of [[...(await codec.encode(given, false))], byteIds]) {
      for (const size of [1, 2, 3, 5]) {
        const assembler = new TextAssembler(codec, [], []);
        let shown = "";
        for (let from = 0; from < ids.length; from += size) {
          const delivered = Uint32Array.from(ids.slice(from, from + size));
          const more = assembler.push({
            index: from,
            ids: delivered,
            logprobs: new Float32Array(),
            topIds: new Uint32Array(),
            topLogprobs: new Float32Array(),
          }).text;
          expect(more).not.toContain("\ufffd");
          expect(more.isWellFormed()).toBe(true);
          shown += more;
        }
        expect((shown + assembler.finish().text).trimStart()).toBe(given);
      }
    }
  });
});

describe("what the header says", () => {
  test("text begins with <s> where the model wants it, which sentencepiece's merges do by default", async () => {
    const { tokens } = fixture<SentencePiece>("merges");
    const header = sentencePieceHeader("merges");
    delete header["tokenizer.ggml.add_bos_token"];
    const codec = await open(header);
    expect((await codec.encode("a", false))[0]).toBe(tokens.indexOf("<s>"));
  });

  test("Phi-3's special tokens take the space behind them", async () => {
    const { tokens } = fixture<SentencePiece>("merges");
    const special = tokens.indexOf("</s>");
    const codec = await open(sentencePieceHeader("merges", { "general.architecture": text("phi3") }));
    expect([...(await codec.encode("</s> \n a", true))]).toEqual([
      special,
      ...(await codec.encode("a", false)),
    ]);
  });

  test("Gemma's end of a turn ends it", async () => {
    const { tokens } = fixture<SentencePiece>("gemma");
    const codec = await open(sentencePieceHeader("gemma"));
    expect(codec.stopIds).toContain(tokens.indexOf("<end_of_turn>"));
  });

  test.each<[string, Header, string]>([
    ["a kind of tokenizer", { "tokenizer.ggml.model": text("bert") }, "model_tokenizer_unsupported"],
    [
      "a map of characters",
      { "tokenizer.ggml.precompiled_charsmap": { type: "i32s", value: [1] } },
      "model_tokenizer_unsupported",
    ],
    [
      "spaces removed",
      { "tokenizer.ggml.remove_extra_whitespaces": flag(true) },
      "model_tokenizer_unsupported",
    ],
    ["too few scores", { "tokenizer.ggml.scores": { type: "f32s", value: [1] } }, "model_file_invalid"],
    ["too few types", { "tokenizer.ggml.token_type": { type: "i32s", value: [1] } }, "model_file_invalid"],
    ["a wrong id", { "tokenizer.ggml.eos_token_id": u32(700) }, "model_file_invalid"],
  ])("%s is refused", async (_, changes, code) => {
    await expect(open(sentencePieceHeader("merges", changes))).rejects.toMatchObject({ code });
  });

  test("a way to cut text that is unknown is refused by name", async () => {
    await expect(open(byteLevelHeader("elvish"))).rejects.toMatchObject({
      code: "model_tokenizer_unsupported",
      message: expect.stringMatching(/"elvish"/),
    });
  });

  test("a prompt of megabytes without spaces is refused soon", async () => {
    const codec = await open(sentencePieceHeader("merges"));
    await expect(codec.encode("a".repeat(4_000_000), false)).rejects.toMatchObject({
      code: "prompt_too_long",
    });
  });
});
