import { Tokenizer } from "@huggingface/tokenizers";
import { StreamServeError } from "../errors.js";
import { byteCharacter } from "./byte-level.js";
import { preTokenizer } from "./pre-tokenizers.js";
import type { Vocabulary } from "./vocabulary.js";

export interface EncodeLimits {
  /** Encoding stops with `prompt_too_long` once there are more. */
  readonly mostTokens: number;
  /** The model's context, for that error. */
  readonly contextTokens: number;
}

/** Text is encoded in stretches of about so many characters, between which the limit is looked at. */
const STRETCH = 8192;

/**
 * Text to token ids, on the calling thread. Special tokens are found here, longest first; the text between
 * them goes to @huggingface/tokenizers with the model file's vocabulary in its JSON form. No normalisation:
 * the ids always spell the text's own bytes.
 */
export class Encoder {
  readonly #tokenizer: Tokenizer;
  readonly #inexpressible: RegExp | undefined;
  readonly #withControl: Splitter;
  readonly #withoutControl: Splitter;
  readonly #addBos: readonly number[];
  readonly #limits: EncodeLimits;
  /** Characters a token can stand for, at most: bytes for most tokens, and no character has fewer. */
  readonly #longestToken: number;

  /** Throws `model_tokenizer_unsupported` for a pre-tokenizer that is unknown here or a vocabulary with gaps. */
  constructor(vocabulary: Vocabulary, limits: EncodeLimits) {
    this.#limits = limits;
    this.#longestToken = vocabulary.tokens.reduce((most, token) => Math.max(most, token.length), 1);
    this.#inexpressible = inexpressible(vocabulary);
    this.#tokenizer = new Tokenizer(definition(vocabulary), {});
    const { userDefined, control, addBos, bosId } = vocabulary;
    this.#withControl = new Splitter(new Map([...userDefined, ...control]));
    this.#withoutControl = new Splitter(userDefined);
    this.#addBos = addBos && bosId !== undefined ? [bosId] : [];
  }

  /**
   * Ids of `text`. With `special`, text such as `<|im_end|>` becomes the special token. With `start`, the
   * beginning-of-sequence token goes first if the model asks for it.
   * Throws `invalid_utf8` for text with half a surrogate pair, `invalid_parameter` for a character that the model
   * has no tokens for, `prompt_too_long` beyond the limit.
   */
  encode(text: string, special: boolean, start: boolean): Uint32Array {
    if (!text.isWellFormed()) {
      throw new StreamServeError(
        "invalid_utf8",
        "The text holds half of a surrogate pair, which no UTF-8 can express: send whole characters.",
      );
    }
    const unknown = this.#inexpressible?.exec(text);
    if (unknown) {
      const name = `U+${(unknown[0].codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}`;
      throw new StreamServeError(
        "invalid_parameter",
        `The model has no token for the character ${name} at index ${unknown.index} of the text: remove it.`,
        { character: name, index: unknown.index },
      );
    }
    const ids = start ? [...this.#addBos] : [];
    for (const piece of (special ? this.#withControl : this.#withoutControl).split(text)) {
      if (typeof piece === "number") {
        ids.push(piece);
        continue;
      }
      for (const stretch of stretches(piece)) {
        this.#require(ids.length + Math.floor(stretch.length / this.#longestToken));
        for (const id of this.#tokenizer.encode(stretch, { add_special_tokens: false }).ids) {
          ids.push(id);
        }
      }
    }
    this.#require(ids.length);
    return Uint32Array.from(ids);
  }

  /** `least`: tokens that the text has in any case. */
  #require(least: number): void {
    const { mostTokens, contextTokens } = this.#limits;
    if (least > mostTokens) {
      throw new StreamServeError(
        "prompt_too_long",
        `The prompt has more than ${mostTokens} tokens and the model's context is ${contextTokens}: shorten it.`,
        { promptTokens: least, contextTokens },
      );
    }
  }
}

/**
 * Cuts text between a letter or digit and white space: no pre-tokenizer joins the two, nor looks across, so the
 * stretches' tokens are the text's.
 */
function* stretches(text: string): Generator<string> {
  const boundary = /(?<=[\p{L}\p{N}])(?=\s)/gu;
  let from = 0;
  while (text.length - from > STRETCH) {
    boundary.lastIndex = from + STRETCH;
    const at = boundary.exec(text)?.index ?? text.length;
    yield text.slice(from, at);
    from = at;
  }
  if (from < text.length) {
    yield text.slice(from);
  }
}

/** Cuts text at the tokens that stand whole in it. */
class Splitter {
  readonly #ids: ReadonlyMap<string, number>;
  readonly #pattern: RegExp | undefined;

  constructor(ids: ReadonlyMap<string, number>) {
    this.#ids = ids;
    const longestFirst = [...ids.keys()].sort((a, b) => b.length - a.length);
    const alternatives = longestFirst.map((text) => text.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&"));
    this.#pattern = alternatives.length === 0 ? undefined : new RegExp(`(${alternatives.join("|")})`, "u");
  }

  /** The text's parts in order: strings between tokens, numbers for tokens. None is empty. */
  split(text: string): readonly (string | number)[] {
    const parts = this.#pattern === undefined ? [text] : text.split(this.#pattern);
    return parts.filter((part) => part !== "").map((part) => this.#ids.get(part) ?? part);
  }
}

/** The vocabulary as a tokenizer.json object. */
function definition(vocabulary: Vocabulary): object {
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
export function inexpressible(vocabulary: Vocabulary): RegExp | undefined {
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
