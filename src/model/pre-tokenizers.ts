import { StreamServeError } from "../errors.js";

/**
 * How text is cut into words before merging, by GGUF's name for it. The expressions are those the models were
 * trained with, as their published tokenizer files give them (Oniguruma syntax).
 */

export interface PreTokenizer {
  /** Applied one after the other, each to the pieces the one before left. */
  readonly cuts: readonly string[];
  /** A word that is in the vocabulary whole is taken without merging. */
  readonly ignoreMerges: boolean;
}

/** GPT-2's own expression, which byte-level pre-tokenizers stand for. */
export const GPT2_CUT = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;

/** The same without runs of spaces at the end of words. */
const GPT2_OPEN = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)`;

const modern = (numbers: string) =>
  String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|${numbers}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`;

/** Case-aware words of o200k and its kin; `contraction` may end a word. */
const caseAware = (contraction: string, numbers: string) =>
  [
    String.raw`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+${contraction}`,
    String.raw`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*${contraction}`,
    String.raw`${numbers}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
  ].join("|");

/** Cuts each digit off by itself. */
export const SINGLE_DIGITS = String.raw`\p{N}`;

const gpt2: PreTokenizer = { cuts: [GPT2_CUT], ignoreMerges: false };
const singleDigits: PreTokenizer = { cuts: [SINGLE_DIGITS, GPT2_CUT], ignoreMerges: false };
const llama3: PreTokenizer = { cuts: [modern(String.raw`\p{N}{1,3}`)], ignoreMerges: true };
const qwen2: PreTokenizer = { cuts: [modern(String.raw`\p{N}`)], ignoreMerges: false };
const o200k: PreTokenizer = {
  cuts: [caseAware("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", String.raw`\p{N}{1,3}`)],
  ignoreMerges: false,
};
const tekken: PreTokenizer = { cuts: [caseAware("", String.raw`\p{N}`)], ignoreMerges: true };
const phi4: PreTokenizer = { cuts: [modern(String.raw`\p{N}{1,3}`)], ignoreMerges: false };
/** What GGUF means by no name, or "default": punctuation apart, then GPT-2's words, then numbers by threes. */
const unnamed: PreTokenizer = {
  cuts: [String.raw`[\p{P}\$\+<=>\^~\|]+`, GPT2_OPEN, String.raw`\p{N}+`, "[0-9][0-9][0-9]"],
  ignoreMerges: false,
};

const PRE_TOKENIZERS: ReadonlyMap<string, PreTokenizer> = new Map([
  ["gpt-2", gpt2],
  ["phi-2", gpt2],
  ["smollm", singleDigits],
  ["starcoder", singleDigits],
  ["refact", singleDigits],
  ["llama-bpe", llama3],
  ["llama3", llama3],
  ["llama-v3", llama3],
  ["qwen2", qwen2],
  ["deepseek-r1-qwen", qwen2],
  ["gpt-4o", o200k],
  ["tekken", tekken],
  ["dbrx", phi4],
  ["default", unnamed],
]);

/** Throws `model_tokenizer_unsupported` naming the kind. */
export function preTokenizer(name: string): PreTokenizer {
  const found = PRE_TOKENIZERS.get(name);
  if (found === undefined) {
    const known = [...PRE_TOKENIZERS.keys()].join(", ");
    throw new StreamServeError(
      "model_tokenizer_unsupported",
      `The model cuts text in a way called "${name}", which is not supported; these are: ${known}.`,
      { preTokenizer: name },
    );
  }
  return found;
}

/** The name of a pre-tokenizer that cuts by these expressions; undefined if there is none. */
export function findPreTokenizer(cuts: readonly string[], ignoreMerges: boolean): string | undefined {
  const wanted = cuts.join("\n");
  return [...PRE_TOKENIZERS].find(
    ([, known]) => known.cuts.join("\n") === wanted && known.ignoreMerges === ignoreMerges,
  )?.[0];
}
