import { ByteLevelModel, inexpressible } from "./byte-level-model.js";
import { preTokenizer } from "./pre-tokenizers.js";
import { SentencePieceModel } from "./sentencepiece-model.js";
import type { TextModel } from "./text-model.js";
import type { Vocabulary } from "./vocabulary.js";

/** Throws what `textModel` would, without the cost of making one. */
export function requireSupported(vocabulary: Vocabulary): void {
  if (vocabulary.kind === "byte-level") {
    preTokenizer(vocabulary.preTokenizer);
    inexpressible(vocabulary);
  }
}

/** Throws `model_tokenizer_unsupported` for what the file asks for and is missing here. */
export function textModel(vocabulary: Vocabulary): TextModel {
  return vocabulary.kind === "byte-level"
    ? new ByteLevelModel(vocabulary)
    : new SentencePieceModel(vocabulary);
}
