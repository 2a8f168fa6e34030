import { Tokenizer } from "@huggingface/tokenizers";
import { StreamServeError } from "../errors.js";
import { byteCharacter } from "./byte-level.js";
import { preTokenizer } from "./pre-tokenizers.js";
import type { PlacedCharacter, TextModel } from "./text-model.js";
import type { ByteLevelVocabulary } from "./vocabulary.js";

/**
 * Byte-level BPE, by @huggingface/tokenizers with the model file's vocabulary in its JSON form. No normalisation:
 * the ids always spell the text's own bytes.
 */
export class ByteLevelModel implements TextModel {
  readonly cutsAtSpaces = true;
  readonly #tokenizer: Tokenizer;
  readonly #inexpressible: RegExp | undefined;

  /** Throws `model_tokenizer_unsupported` for a pre-tokenizer that is unknown here or a vocabulary with gaps. */
  constructor(vocabulary: ByteLevelVocabulary) {
    this.#inexpressible = inexpressible(vocabulary);
    this.#tokenizer = new Tokenizer(definition(vocabulary), {});
  }

  encode(text: string): Iterable<number> {
    return this.#tokenizer.encode(text, { add_special_tokens: false }).ids;
  }

  inexpressible(text: string): PlacedCharacter | undefined {
    const found = this.#inexpressible?.exec(text);
    return found ? { character: found[0], index: found.index } : undefined;
  }
}

/** The vocabulary as a tokenizer.json object. */
function definition(vocabulary: ByteLevelVocabulary): object {
  const { cuts, ignoreMerges } = preTokenizer(vocabulary.preTokenizer);
  // No prototype: a token may well be called "__proto__".
  const vocab: Record<string, number> = Object.create(null);
  vocabulary.tokens.forEach((text, id) => {
    if (text !== "" && !vocabulary.control.has(text) && !vocabulary.userDefined.has(text)) {
      vocab[text] = id;
    }
  });
  const split = (regex: string) => ({
    type: "Split",
    pattern: { Regex: regex },
    behavior: "Isolated",
    invert: false,
  });
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false };
  return {
    version: "1.0",
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: { type: "Sequence", pretokenizers: [...cuts.map(split), byteLevel] },
    post_processor: null,
    decoder: null,
    model: { type: "BPE", vocab, merges: vocabulary.merges, ignore_merges: ignoreMerges },
  };
}

/**
 * Matches characters that the vocabulary has no bytes for: rare controls and unassigned planes in some models.
 * The library would drop them without a word. Undefined when there are none.
 */
export function inexpressible(vocabulary: ByteLevelVocabulary): RegExp | undefined {
  const known = new Set(vocabulary.tokens);
  const ranges: string[] = [];
  for (let byte = 0; byte < 0xf5; byte++) {
    if (known.has(byteCharacter(byte)) || byte === 0xc0 || byte === 0xc1) {
      continue;
    }
    if (byte >= 0x80 && byte < 0xc0) {
      throw new StreamServeError(
        "model_tokenizer_unsupported",
        `The model's vocabulary has no token for byte ${byte}, which occurs in ordinary text.`,
      );
    }
    const [first, last] = charactersLedBy(byte);
    ranges.push(`\\u{${first.toString(16)}}-\\u{${last.toString(16)}}`);
  }
  return ranges.length === 0 ? undefined : new RegExp(`[${ranges.join("")}]`, "u");
}

/** First and last code point whose UTF-8 begins with `byte`. */
function charactersLedBy(byte: number): readonly [number, number] {
  if (byte < 0x80) {
    return [byte, byte];
  }
  const [bits, payload] =
    byte < 0xe0 ? [6, byte & 0x1f] : byte < 0xf0 ? [12, byte & 0x0f] : [18, byte & 0x07];
  return [payload << bits, Math.min((payload << bits) | ((1 << bits) - 1), 0x10ffff)];
}
