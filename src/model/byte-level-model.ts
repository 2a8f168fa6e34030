import { BytePairs } from "../engine/byte-pairs.js";
import { type PackedStrings, stringAt } from "../engine/packed-strings.js";
import { StreamServeError } from "../errors.js";
import { byteCharacter } from "./byte-level.js";
import { preTokenizer } from "./pre-tokenizers.js";
import type { PlacedCharacter, TextModel } from "./text-model.js";
import type { ByteLevelVocabulary } from "./vocabulary.js";
import { WordCutter } from "./word-cutter.js";

/** Bytes of UTF-8 that a UTF-16 unit takes at most. */
const MOST_BYTES_A_UNIT = 3;
/** Longer texts, which have no spaces to cut them at, get buffers of their own: these would never be given back. */
const KEPT_BYTES = 1 << 18;

/** Byte-level BPE. No normalisation: the ids always spell the text's own bytes. */
export class ByteLevelModel implements TextModel {
  readonly cutsAtSpaces = true;
  readonly #pairs: BytePairs;
  readonly #cutter: WordCutter;
  readonly #ignoreMerges: boolean;
  readonly #inexpressible: RegExp | undefined;
  readonly #utf8 = new TextEncoder();
  // Of the text at hand: its bytes, where its words end in them, its ids.
  #bytes = new Uint8Array(0);
  #ends = new Uint32Array(0);
  #ids = new Uint32Array(0);

  /**
   * Throws `model_tokenizer_unsupported` for a pre-tokenizer that is unknown here or a vocabulary with gaps, and what
   * `BytePairs` throws.
   */
  constructor(vocabulary: ByteLevelVocabulary) {
    this.#inexpressible = inexpressible(vocabulary);
    const { cuts, ignoreMerges } = preTokenizer(vocabulary.preTokenizer);
    this.#cutter = new WordCutter(cuts);
    this.#ignoreMerges = ignoreMerges;
    const { tokens, merges, control, userDefined } = vocabulary;
    this.#pairs = new BytePairs(tokens, merges, [...control.keys(), ...userDefined.keys()]);
  }

  encode(text: string): Uint32Array {
    const most = MOST_BYTES_A_UNIT * text.length;
    if (this.#bytes.length < most) this.#reserve(most);
    const [bytes, ends, ids] = [this.#bytes, this.#ends, this.#ids];
    this.#utf8.encodeInto(text, bytes);
    const words = this.#cutter.ends(text);
    let at = 0;
    let written = 0;
    for (const [word, end] of words.entries()) {
      for (; at < end; at++) written += bytesOfUnit(text.charCodeAt(at));
      ends[word] = written;
    }
    const count = this.#pairs.encode(bytes, ends, words.length, this.#ignoreMerges, ids);
    if (most > KEPT_BYTES) this.#reserve(0);
    return ids.subarray(0, count);
  }

  #reserve(bytes: number): void {
    this.#bytes = new Uint8Array(bytes);
    this.#ends = new Uint32Array(bytes);
    this.#ids = new Uint32Array(bytes);
  }

  inexpressible(text: string): PlacedCharacter | undefined {
    const found = this.#inexpressible?.exec(text);
    return found ? { character: found[0], index: found.index } : undefined;
  }
}

/** Of a character that two units make, each counts half. */
function bytesOfUnit(unit: number): number {
  if (unit < 0x80) return 1;
  return unit < 0x800 || (unit >= 0xd800 && unit < 0xe000) ? 2 : 3;
}

/**
 * Matches characters that the vocabulary has no bytes for: rare controls and unassigned planes in some models.
 * Merging would lose them without a word. Undefined when there are none.
 */
export function inexpressible(vocabulary: ByteLevelVocabulary): RegExp | undefined {
  const known = singleCharacters(vocabulary.tokens);
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

/** The tokens of one character that could stand for a byte. */
function singleCharacters(tokens: PackedStrings): ReadonlySet<string> {
  const found = new Set<string>();
  for (let id = 0, from = 0; id < tokens.ends.length; from = tokens.ends[id++]!) {
    const bytes = tokens.ends[id]! - from;
    if (bytes === 1 || bytes === 2) found.add(stringAt(tokens, id)!);
  }
  return found;
}
