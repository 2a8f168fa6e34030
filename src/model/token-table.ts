import type { Metadata } from "../engine/metadata.js";
import {
  isPackedStrings,
  type PackedStrings,
  packStrings,
  rangeAt,
  stringAt,
  unpackStrings,
} from "../engine/packed-strings.js";
import { StreamServeError } from "../errors.js";

/** GGUF's token types. */
const TYPES = { normal: 1, unknown: 2, control: 3, "user-defined": 4, unused: 5, byte: 6 } as const;

/** The arrays of a GGUF tokenizer, one entry an id. Its methods throw `model_file_invalid` for a broken table. */
export class TokenTable {
  /** Id -> text; "" for unused ids. */
  readonly tokens: PackedStrings;
  readonly #metadata: Metadata;
  readonly #types: Int32Array | undefined;

  constructor(metadata: Metadata) {
    this.#metadata = metadata;
    const tokens = this.#strings("tokens");
    const types = metadata.get("tokenizer.ggml.token_type");
    if (
      tokens.ends.length === 0 ||
      (types !== undefined && (!(types instanceof Int32Array) || types.length !== tokens.ends.length))
    ) {
      throw invalid("its token types do not match its tokens");
    }
    this.#types = types;
    this.tokens = types?.includes(TYPES.unused)
      ? packStrings(unpackStrings(tokens).map((token, id) => (types[id] === TYPES.unused ? "" : token)))
      : tokens;
  }

  /** Text -> id of all tokens of a type. */
  named(type: "control" | "user-defined"): ReadonlyMap<string, number> {
    return new Map(this.#ofType(TYPES[type]).map((id) => [stringAt(this.tokens, id)!, id]));
  }

  /** Ids of the tokens that text is made of. */
  pieces(): readonly number[] {
    if (this.#types === undefined) {
      throw invalid("its tokens have no types");
    }
    return this.#ofType(TYPES.normal);
  }

  /** Byte -> id of its token, written `<0x0A>`; undefined unless there are all 256. */
  byteIds(): readonly number[] | undefined {
    const ids: number[] = [];
    for (const id of this.#ofType(TYPES.byte)) {
      const byte = byteOf(stringAt(this.tokens, id)!);
      if (byte === undefined) {
        throw invalid(`token ${id} is of type byte and names none`);
      }
      ids[byte] = id;
    }
    const complete = Array.from({ length: 256 }, (_, byte) => ids[byte]).every((id) => id !== undefined);
    return complete ? ids : undefined;
  }

  merges(): PackedStrings {
    return this.#strings("merges");
  }

  /** Of each id: higher is merged first, or likelier. */
  scores(): Float32Array {
    const scores = this.#metadata.get("tokenizer.ggml.scores");
    if (!(scores instanceof Float32Array) || scores.length !== this.tokens.ends.length) {
      throw invalid("its scores do not match its tokens");
    }
    if (!scores.every((score) => Number.isFinite(score))) {
      throw invalid("a score is no number");
    }
    return scores;
  }

  /** `tokenizer.ggml.NAME_token_id`. */
  id(name: string): number | undefined {
    const key = `tokenizer.ggml.${name}_token_id`;
    const value = this.#metadata.get(key);
    if (value === undefined) {
      return undefined;
    }
    if (
      typeof value !== "number" ||
      !Number.isInteger(value) ||
      value < 0 ||
      value >= this.tokens.ends.length
    ) {
      throw invalid(`${key} is ${value}, outside a vocabulary of ${this.tokens.ends.length}`);
    }
    return value;
  }

  #ofType(type: number): readonly number[] {
    const ids: number[] = [];
    const types = this.#types;
    for (let id = types?.indexOf(type) ?? -1; id >= 0; id = types?.indexOf(type, id + 1) ?? -1) {
      const [from, end] = rangeAt(this.tokens, id)!;
      if (from < end) ids.push(id);
    }
    return ids;
  }

  #strings(name: string): PackedStrings {
    const value = this.#metadata.get(`tokenizer.ggml.${name}`);
    if (isPackedStrings(value)) return value;
    if (!Array.isArray(value)) {
      throw invalid(`tokenizer.ggml.${name} is missing or no list of strings`);
    }
    return packStrings(value);
  }
}

/** The byte that a token such as `<0x0A>` names. */
function byteOf(token: string): number | undefined {
  const digits = /^<0x([0-9A-Fa-f]{2})>$/.exec(token)?.[1];
  return digits === undefined ? undefined : Number.parseInt(digits, 16);
}

function invalid(why: string): StreamServeError {
  return new StreamServeError("model_file_invalid", `The model file's tokenizer is broken: ${why}.`);
}
