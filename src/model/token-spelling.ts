import { stringAt } from "../engine/packed-strings.js";
import { bytesOf } from "./byte-level.js";
import { SPACE_MARK } from "./sentencepiece-model.js";
import type { Vocabulary } from "./vocabulary.js";

/** The bytes that a token stands for, control tokens aside. It may begin or end inside a UTF-8 sequence. */
export function tokenSpelling(vocabulary: Vocabulary, id: number): Uint8Array {
  const token = stringAt(vocabulary.tokens, id) ?? "";
  if (vocabulary.kind === "byte-level") {
    // User-defined tokens are written as they are, not byte by byte.
    return bytesOf(token) ?? Buffer.from(token, "utf8");
  }
  const byte = vocabulary.byteIds?.indexOf(id) ?? -1;
  return byte >= 0 ? Uint8Array.of(byte) : Buffer.from(token.replaceAll(SPACE_MARK, " "), "utf8");
}
