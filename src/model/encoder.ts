import { StreamServeError } from "../errors.js";
import { textModel } from "./choose-text-model.js";
import { Splitter } from "./splitter.js";
import type { TextModel } from "./text-model.js";
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
 * them goes to the vocabulary's own model.
 */
export class Encoder {
  readonly #model: TextModel;
  readonly #withControl: Splitter;
  readonly #withoutControl: Splitter;
  readonly #addBos: readonly number[];
  readonly #limits: EncodeLimits;
  /** Characters a token can stand for, at most: bytes for most tokens, and no character has fewer. */
  readonly #longestToken: number;

  /** Throws `model_tokenizer_unsupported` for what the vocabulary asks for and is missing here. */
  constructor(vocabulary: Vocabulary, limits: EncodeLimits) {
    this.#limits = limits;
    this.#longestToken = longestToken(vocabulary);
    this.#model = textModel(vocabulary);
    const { userDefined, control, stripsAfter, addBos, bosId } = vocabulary;
    this.#withControl = new Splitter(new Map([...userDefined, ...control]), stripsAfter);
    this.#withoutControl = new Splitter(userDefined, stripsAfter);
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
    const unknown = this.#model.inexpressible(text);
    if (unknown !== undefined) {
      const name = `U+${(unknown.character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}`;
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
      let first = true;
      for (const stretch of this.#model.cutsAtSpaces ? stretches(piece) : [piece]) {
        this.#require(ids.length + Math.floor(stretch.length / this.#longestToken));
        for (const id of this.#model.encode(stretch, first)) {
          ids.push(id);
        }
        first = false;
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
        `The prompt has at least ${least} tokens, but the context holds ${contextTokens}: shorten the prompt.`,
        { promptTokens: least, contextTokens },
      );
    }
  }
}

/** UTF-16 units of the longest token. */
function longestToken({ tokens: { bytes, ends } }: Vocabulary): number {
  let most = 1;
  for (let id = 0, at = 0; id < ends.length; id++) {
    let units = 0;
    for (; at < ends[id]!; at++) {
      const byte = bytes[at]!;
      // One for each leading byte, and one more for characters of four bytes.
      if ((byte & 0xc0) !== 0x80) units += byte >= 0xf0 ? 2 : 1;
    }
    most = Math.max(most, units);
  }
  return most;
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
