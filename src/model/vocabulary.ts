import type { Metadata } from "../engine/metadata.js";
import type { PackedStrings } from "../engine/packed-strings.js";
import { StreamServeError } from "../errors.js";
import { TokenTable } from "./token-table.js";

/** Plain data, which threads can be given. */
interface CommonVocabulary {
  /** Id -> text: byte-level encoded, or with sentencepiece's mark for spaces; special tokens as they are. */
  readonly tokens: PackedStrings;
  /** Control tokens, e.g. `<|im_end|>`: text -> id. They carry no text of their own. */
  readonly control: ReadonlyMap<string, number>;
  /** Tokens found whole in any text: text -> id. */
  readonly userDefined: ReadonlyMap<string, number>;
  /** Special tokens after which white space in the text is dropped. */
  readonly stripsAfter: ReadonlySet<number>;
  /** Tokens that end a turn. */
  readonly stopIds: readonly number[];
  readonly bosId: number | undefined;
  readonly eosId: number | undefined;
  /** Whether raw text begins with the beginning-of-sequence token. */
  readonly addBos: boolean;
}

export interface ByteLevelVocabulary extends CommonVocabulary {
  readonly kind: "byte-level";
  /** GGUF's name of the pre-tokenizer: how text is cut before merging. */
  readonly preTokenizer: string;
  /** Pairs "left right", first to be merged first. */
  readonly merges: PackedStrings;
}

export interface SentencePieceVocabulary extends CommonVocabulary {
  /** Which of sentencepiece's models. */
  readonly kind: "merges" | "unigram";
  /** Ids of the tokens that text is made of. */
  readonly pieces: readonly number[];
  /** Of each id. */
  readonly scores: Float32Array;
  /** Byte -> id of its token; undefined where the vocabulary lacks any of them. */
  readonly byteIds: readonly number[] | undefined;
  /** Whether a space goes before text that begins a prompt or follows a special token. */
  readonly spacePrefix: boolean;
}

export type Vocabulary = ByteLevelVocabulary | SentencePieceVocabulary;

/** Control tokens that end a turn in the models that have them, whatever the header's `eos_token_id` says. */
const END_OF_TURN = new Set([
  "<|im_end|>",
  "<|eot_id|>",
  "<|eom_id|>",
  "<|endoftext|>",
  "<|end_of_text|>",
  "<|end|>",
  "<end_of_turn>",
]);

/** GGUF's names of tokenizers. */
const KINDS: ReadonlyMap<unknown, Vocabulary["kind"]> = new Map([
  ["gpt2", "byte-level"],
  ["llama", "merges"],
  ["t5", "unigram"],
]);

/** Pre-tokenizers whose models begin with the beginning-of-sequence token where the header doesn't say. */
const BOS_BY_DEFAULT = new Set(["llama-bpe", "llama3", "llama-v3", "tekken"]);

/** Phi-3's special tokens take the white space behind them, all but these. */
const PHI3_KEEPS = new Set(["<unk>", "<s>", "<|endoftext|>"]);

/**
 * The tokenizer part of a header, checked: every id has a text and a kind, every merge two parts.
 * Throws `model_tokenizer_unsupported` naming what is missing here, `model_file_invalid` for a broken table.
 */
export function readVocabulary(metadata: Metadata): Vocabulary {
  const model = metadata.get("tokenizer.ggml.model");
  const kind = KINDS.get(model);
  if (kind === undefined) {
    throw unsupported(
      model === undefined
        ? "The model file carries no tokenizer: use a GGUF that has one."
        : `The model's tokenizer is of kind "${model}"; these are supported: ${[...KINDS.keys()].join(", ")}.`,
    );
  }
  const table = new TokenTable(metadata);
  const preTokenizer = text(metadata, "tokenizer.ggml.pre") ?? "default";
  const control = table.named("control");
  const userDefined = table.named("user-defined");
  const eosId = table.id("eos");
  const known = [...control, ...userDefined].flatMap(([name, at]) => (END_OF_TURN.has(name) ? [at] : []));
  const stopIds = [...new Set([eosId, table.id("eot"), table.id("eom"), ...known])];
  const common = {
    tokens: table.tokens,
    control,
    stripsAfter: new Set<number>(),
    stopIds: stopIds.filter((at) => at !== undefined),
    bosId: table.id("bos"),
    eosId,
    addBos: flag(metadata, "add_bos_token") ?? (kind === "merges" || BOS_BY_DEFAULT.has(preTokenizer)),
  };
  if (kind === "byte-level") {
    return { ...common, kind, userDefined, preTokenizer, merges: table.merges() };
  }
  if (metadata.has("tokenizer.ggml.precompiled_charsmap")) {
    throw unsupported("The model's tokenizer maps characters before it cuts text, which is not supported.");
  }
  if (flag(metadata, "remove_extra_whitespaces") === true) {
    throw unsupported("The model's tokenizer removes repeated spaces, which is not supported.");
  }
  const phi3 = metadata.get("general.architecture") === "phi3";
  const strips = phi3 ? [...control].flatMap(([name, at]) => (PHI3_KEEPS.has(name) ? [] : [at])) : [];
  return {
    ...common,
    kind,
    stripsAfter: new Set(strips),
    // Sentencepiece finds them in text whose spaces it has marked.
    userDefined: new Map([...userDefined].map(([name, at]) => [name.replaceAll("\u2581", " "), at])),
    pieces: table.pieces(),
    scores: table.scores(),
    byteIds: table.byteIds(),
    spacePrefix: flag(metadata, "add_space_prefix") ?? true,
  };
}

function text(metadata: Metadata, key: string): string | undefined {
  const value = metadata.get(key);
  return typeof value === "string" ? value : undefined;
}

function flag(metadata: Metadata, name: string): boolean | undefined {
  const value = metadata.get(`tokenizer.ggml.${name}`);
  return typeof value === "boolean" ? value : undefined;
}

function unsupported(sentence: string): StreamServeError {
  return new StreamServeError("model_tokenizer_unsupported", sentence);
}
