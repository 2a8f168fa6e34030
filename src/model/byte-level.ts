/**
 * Byte-level BPE writes each byte of UTF-8 as one printable character, so that a vocabulary is plain text:
 * printable Latin-1 bytes stand for themselves, the others for U+0100 onwards, in order (GPT-2's table).
 */

const byteOfCharacter = new Map<string, number>();
const characterOfByte: string[] = [];
for (let byte = 0, shifted = 0x100; byte < 256; byte++) {
  const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  const character = String.fromCharCode(printable ? byte : shifted++);
  characterOfByte.push(character);
  byteOfCharacter.set(character, byte);
}

/** The character that stands for a byte. */
export function byteCharacter(byte: number): string {
  return characterOfByte[byte] ?? "";
}

/** The bytes a byte-level text stands for; undefined if a character in it stands for none. */
export function bytesOf(text: string): Uint8Array | undefined {
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) {
    const byte = byteOfCharacter.get(text.charAt(at));
    if (byte === undefined) {
      return undefined;
    }
    bytes[at] = byte;
  }
  return bytes;
}
