import { native } from "./native-addon.js";
import { type PackedStrings, packStrings } from "./packed-strings.js";

/**
 * Byte-level byte-pair encoding, native: tables of some 4 MB for 49,152 tokens and as many merges, made in a few
 * milliseconds. It belongs to the thread that makes it, and lives as long.
 */
export class BytePairs {
  readonly #id: number;

  /**
   * `tokens`: byte-level text of each id. `merges`: "left right", first to be merged first. `apart`: texts that are cut
   * out before there are words. Throws `model_file_invalid` for a merge that is no pair.
   */
  constructor(tokens: PackedStrings, merges: PackedStrings, apart: readonly string[]) {
    const { bytes, ends } = packStrings(apart);
    this.#id = native((addon) =>
      addon.openBytePairs(tokens.bytes, tokens.ends, merges.bytes, merges.ends, bytes, ends),
    );
  }

  /**
   * Writes the ids of `count` words of UTF-8 to `ids`, which has room for one a byte, and returns how many they are.
   * `ends`: where each word ends in `text`. `whole`: a word that is a token is that token, whatever merges make of it.
   */
  encode(text: Uint8Array, ends: Uint32Array, count: number, whole: boolean, ids: Uint32Array): number {
    return native((addon) => addon.encodeWords(this.#id, text, ends, count, whole, ids));
  }
}
