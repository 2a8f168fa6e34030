import { stringAt } from "../engine/packed-strings.js";
import { mergePieces } from "./piece-merger.js";
import type { Pieces } from "./pieces.js";
import type { PlacedCharacter, TextModel } from "./text-model.js";
import { bestPieces } from "./unigram.js";
import type { SentencePieceVocabulary } from "./vocabulary.js";

/** What sentencepiece writes for a space. */
export const SPACE_MARK = "\u2581";

/**
 * SentencePiece's text models: BPE by the score of what a merge makes, and unigrams by the likeliest cut. No
 * normalisation but spaces. Characters without a piece are spelt by byte tokens.
 */
export class SentencePieceModel implements TextModel {
  readonly cutsAtSpaces: boolean;
  readonly #vocabulary: SentencePieceVocabulary;
  readonly #pieces: Pieces;

  constructor(vocabulary: SentencePieceVocabulary) {
    this.#vocabulary = vocabulary;
    const ids = new Map<string, number>();
    let longest = 1;
    for (const id of vocabulary.pieces) {
      const text = stringAt(vocabulary.tokens, id)!;
      ids.set(text, id);
      longest = Math.max(longest, text.length);
    }
    this.#pieces = { ids, scores: vocabulary.scores, longest };
    this.cutsAtSpaces = !vocabulary.pieces.some((id) => reachesOver(stringAt(vocabulary.tokens, id)!));
  }

  *encode(text: string, first: boolean): Generator<number> {
    const prefix = first && this.#vocabulary.spacePrefix ? SPACE_MARK : "";
    const marked = prefix + text.replaceAll(" ", SPACE_MARK);
    const cut = this.#vocabulary.kind === "unigram" ? bestPieces : mergePieces;
    for (const word of this.cutsAtSpaces ? words(marked) : [marked]) {
      for (const piece of cut(word, this.#pieces)) {
        const id = this.#pieces.ids.get(piece);
        if (id === undefined) {
          yield* this.#spell(piece);
        } else {
          yield id;
        }
      }
    }
  }

  inexpressible(text: string): PlacedCharacter | undefined {
    if (this.#vocabulary.byteIds !== undefined) {
      return undefined;
    }
    let index = 0;
    for (const character of text) {
      if (!this.#pieces.ids.has(character === " " ? SPACE_MARK : character)) {
        return { character, index };
      }
      index += character.length;
    }
    return undefined;
  }

  *#spell(piece: string): Generator<number> {
    for (const byte of Buffer.from(piece, "utf8")) {
      const id = this.#vocabulary.byteIds?.[byte];
      if (id !== undefined) yield id;
    }
  }
}

/** Whether a piece has a space after something else. */
function reachesOver(piece: string): boolean {
  let at = 0;
  while (piece.charAt(at) === SPACE_MARK) at++;
  return piece.includes(SPACE_MARK, at);
}

/** Each run of spaces with what follows it: no piece goes further. */
function words(marked: string): Iterable<string> {
  return marked.match(/\u2581*[^\u2581]+|\u2581+/gu) ?? [];
}
