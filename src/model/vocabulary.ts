import type { MetadataValue } from "../engine/metadata.js";
import { StreamServeError } from "../errors.js";

/** The tokenizer part of a GGUF header, checked: every id has a text and a kind, every merge two parts. */

export type Metadata = ReadonlyMap<string, MetadataValue>;

/** GGUF's token types that are treated apart from ordinary text. */
const CONTROL = 3;
const USER_DEFINED = 4;
const UNUSED = 5;

export interface Vocabulary {
  /** GGUF's name of the pre-tokenizer: how text is cut before merging. */
  readonly preTokenizer: string;
  /** Id -> text, byte-level encoded but for special tokens. */
  readonly tokens: readonly string[];
  /** Pairs "left right", first to be merged first. */
  readonly merges: readonly string[];
  /** Control tokens, e.g. `<|im_end|>`: text -> id. They carry no text of their own. */
  readonly control: ReadonlyMap<string, number>;
  /** Tokens found whole in any text: text -> id. */
  readonly userDefined: ReadonlyMap<string, number>;
  /** Tokens that end a turn. */
  readonly stopIds: readonly number[];
  readonly bosId: number | undefined;
  readonly eosId: number | undefined;
  /** Whether raw text begins with the beginning-of-sequence token. */
  readonly addBos: boolean;
}

/** Control tokens that end a turn in the models that have them, whatever the header's `eos_token_id` says. */
const END_OF_TURN = new Set([
  "<|im_end|>",
  "<|eot_id|>",
  "<|eom_id|>",
  "<|endoftext|>",
  "<|end_of_text|>",
  "<|end|>",
]);

/** Throws `model_tokenizer_unsupported` naming what is missing here, `model_file_invalid` for a broken table. */
export function readVocabulary(metadata: Metadata): Vocabulary {
  const model = metadata.get("tokenizer.ggml.model");
  if (model !== "gpt2") {
    throw new StreamServeError(
      "model_tokenizer_unsupported",
      model === undefined
        ? "The model file carries no tokenizer: use a GGUF that has one."
        : `The model's tokenizer is of kind "${model}"; only byte-level BPE ("gpt2") is supported.`,
    );
  }
  const tokens = strings(metadata, "tokenizer.ggml.tokens");
  const merges = strings(metadata, "tokenizer.ggml.merges");
  const types = metadata.get("tokenizer.ggml.token_type");
  if (
    tokens.length === 0 ||
    (types !== undefined && (!(types instanceof Int32Array) || types.length !== tokens.length))
  ) {
    throw invalid("its token types do not match its tokens");
  }
  const broken = merges.findIndex((merge) => merge.indexOf(" ", 1) < 1);
  if (broken >= 0) {
    throw invalid(`merge ${broken} is not a pair`);
  }
  const ofType = (type: number) =>
    new Map(tokens.flatMap((text, id) => (types?.[id] === type && text !== "" ? [[text, id] as const] : [])));
  const control = ofType(CONTROL);
  const eosId = id(metadata, "tokenizer.ggml.eos_token_id", tokens.length);
  const named = ["eot", "eom"].map((name) => id(metadata, `tokenizer.ggml.${name}_token_id`, tokens.length));
  const known = [...control].flatMap(([text, at]) => (END_OF_TURN.has(text) ? [at] : []));
  const stopIds = [...new Set([eosId, ...named, ...known])].filter((at) => at !== undefined);
  return {
    preTokenizer: text(metadata, "tokenizer.ggml.pre") ?? "default",
    tokens: types === undefined ? tokens : tokens.map((token, at) => (types[at] === UNUSED ? "" : token)),
    merges,
    control,
    userDefined: ofType(USER_DEFINED),
    stopIds,
    bosId: id(metadata, "tokenizer.ggml.bos_token_id", tokens.length),
    eosId,
    addBos: metadata.get("tokenizer.ggml.add_bos_token") === true,
  };
}

function text(metadata: Metadata, key: string): string | undefined {
  const value = metadata.get(key);
  return typeof value === "string" ? value : undefined;
}

function strings(metadata: Metadata, key: string): readonly string[] {
  const value = metadata.get(key);
  if (!Array.isArray(value)) {
    throw invalid(`${key} is missing or no list of strings`);
  }
  return value;
}

function id(metadata: Metadata, key: string, vocabulary: number): number | undefined {
  const value = metadata.get(key);
  if (value === undefined) {
    return undefined;
  }
  if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value >= vocabulary) {
    throw invalid(`${key} is ${value}, outside a vocabulary of ${vocabulary}`);
  }
  return value;
}

function invalid(why: string): StreamServeError {
  return new StreamServeError("model_file_invalid", `The model file's tokenizer is broken: ${why}.`);
}
