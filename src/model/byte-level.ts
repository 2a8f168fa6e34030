/**
 * Byte-level BPE writes each byte of UTF-8 as one printable character, so that a vocabulary is plain text:
 * printable Latin-1 bytes stand for themselves, the others for U+0100 onwards, in order (GPT-2's table).
 */

/** The last character of the table is U+0143. */
const byteOfCodes = new Int16Array(0x144).fill(-1);
const characterOfByte: string[] = [];
for (let byte = 0, shifted = 0x100; byte < 256; byte++) {
  const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  const code = printable ? byte : shifted++;
  characterOfByte.push(String.fromCharCode(code));
  byteOfCodes[code] = byte;
}

/** The byte that a character, by its code, stands for; -1 if none. */
export function byteOfCode(code: number): number {
  return byteOfCodes[code] ?? -1;
}

/** The character that stands for a byte. */
export function byteCharacter(byte: number): string {
  return characterOfByte[byte] ?? "";
}

/** The bytes a byte-level text stands for; undefined if a character in it stands for none. */
export function bytesOf(text: string): Uint8Array | undefined {
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) {
    const byte = byteOfCode(text.charCodeAt(at));
    if (byte < 0) {
      return undefined;
    }
    bytes[at] = byte;
  }
  return bytes;
}
