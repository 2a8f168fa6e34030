import { readFileSync } from "node:fs";
import { Tokenizer } from "@huggingface/tokenizers";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { packStrings, unpackStrings } from "../dist/engine/packed-strings.js";
import { ByteLevelModel } from "../dist/model/byte-level-model.js";
import { readModelMetadata } from "../dist/model/model-metadata.js";
import { preTokenizer } from "../dist/model/pre-tokenizers.js";
import { resolveModel } from "../dist/model/resolve.js";
import { type ByteLevelVocabulary, readVocabulary } from "../dist/model/vocabulary.js";

/** Our own byte-level BPE gives the ids of Hugging Face's JavaScript tokenizers on any text, cut in any way. */

const { tokens, merges, ids } = JSON.parse(
  readFileSync(new URL("fixtures/tokenizers/byte-level.json", import.meta.url), "utf8"),
) as { tokens: string[]; merges: string[]; ids: Record<string, unknown> };

const small = (name: string): ByteLevelVocabulary => ({
  kind: "byte-level",
  preTokenizer: name,
  tokens: packStrings(tokens),
  merges: packStrings(merges),
  control: new Map(),
  userDefined: new Map(),
  stripsAfter: new Set(),
  stopIds: [],
  bosId: undefined,
  eosId: undefined,
  addBos: false,
});

function peer(vocabulary: ByteLevelVocabulary): Tokenizer {
  const { cuts, ignoreMerges } = preTokenizer(vocabulary.preTokenizer);
  const vocab: Record<string, number> = Object.create(null);
  for (const [id, text] of unpackStrings(vocabulary.tokens).entries()) {
    if (text !== "" && !vocabulary.control.has(text) && !vocabulary.userDefined.has(text)) vocab[text] = id;
  }
  const split = (Regex: string) => ({
    type: "Split",
    pattern: { Regex },
    behavior: "Isolated",
    invert: false,
  });
  const bytes = { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false };
  const model = {
    type: "BPE",
    vocab,
    merges: unpackStrings(vocabulary.merges),
    ignore_merges: ignoreMerges,
  };
  const pre_tokenizer = { type: "Sequence", pretokenizers: [...cuts.map(split), bytes] };
  const none = { added_tokens: [], normalizer: null, post_processor: null, decoder: null };
  return new Tokenizer({ version: "1.0", ...none, pre_tokenizer, model }, {});
}

/** Words, spaces of all kinds and contractions beside anything that is Unicode. */
const texts = fc
  .array(
    fc.oneof(
      fc.string({ unit: "binary", maxLength: 12 }),
      fc.string({ maxLength: 12 }),
      fc.constantFrom(" ", "\n", "\r\n", "\t", "\u0085", "\ufeff", "\u00a0", "\u3000", "  "),
      fc.constantFrom("'s", "'RE", "don't", " the", "ing", "2024", "é", "日本", "🙂", "e\u0301", "ſ"),
    ),
    { maxLength: 20 },
  )
  .map((parts) => parts.join("").toWellFormed());

function compare(vocabulary: ByteLevelVocabulary, numRuns: number): void {
  const ours = new ByteLevelModel(vocabulary);
  const theirs = peer(vocabulary);
  fc.assert(
    fc.property(texts, (text) => {
      fc.pre(ours.inexpressible(text) === undefined);
      expect([...ours.encode(text)]).toEqual(theirs.encode(text, { add_special_tokens: false }).ids);
    }),
    { numRuns },
  );
}

describe("gives the ids of Hugging Face's tokenizers", () => {
  test.each([...Object.keys(ids), "tekken", "default"])("with text cut as %s", (name) => {
    compare(small(name), 300);
  });

  test("with SmolLM2's vocabulary", async () => {
    const path = await resolveModel("smollm2-135m-instruct");
    const vocabulary = readVocabulary(await readModelMetadata(path));
    if (vocabulary.kind !== "byte-level") throw new Error("it should be byte-level");
    compare(vocabulary, 1000);
  });
});
