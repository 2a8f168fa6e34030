/**
 * Many strings end to end in UTF-8, as a model file has them: a vocabulary of 50,000 in half a megabyte, made to
 * JavaScript strings one by one where they are looked at. Plain data, which threads can share.
 */
export interface PackedStrings {
  readonly bytes: Uint8Array;
  /** Where string i ends; it begins where the one before it ends. */
  readonly ends: Uint32Array;
}

export function packStrings(strings: readonly string[]): PackedStrings {
  const ends = new Uint32Array(strings.length);
  let end = 0;
  for (const [at, text] of strings.entries()) {
    end += Buffer.byteLength(text);
    ends[at] = end;
  }
  return { bytes: Buffer.from(strings.join(""), "utf8"), ends };
}

export function isPackedStrings(value: unknown): value is PackedStrings {
  return typeof value === "object" && value !== null && "ends" in value && "bytes" in value;
}

/** Where string `at` begins and ends in the bytes; undefined beyond the last. */
export function rangeAt({ ends }: PackedStrings, at: number): readonly [number, number] | undefined {
  const end = ends[at];
  return end === undefined ? undefined : [at === 0 ? 0 : ends[at - 1]!, end];
}

/** String `at`; bytes that are no UTF-8 become U+FFFD. Undefined beyond the last. */
export function stringAt(list: PackedStrings, at: number): string | undefined {
  const range = rangeAt(list, at);
  if (range === undefined) return undefined;
  const { buffer, byteOffset } = list.bytes;
  return Buffer.from(buffer, byteOffset + range[0], range[1] - range[0]).toString("utf8");
}

/** All of them. */
export function unpackStrings(list: PackedStrings): string[] {
  return Array.from(list.ends, (_, at) => stringAt(list, at) ?? "");
}

/** The same where threads share it. */
export function sharedStrings({ bytes, ends }: PackedStrings): PackedStrings {
  const shared = {
    bytes: new Uint8Array(new SharedArrayBuffer(bytes.length)),
    ends: new Uint32Array(new SharedArrayBuffer(ends.byteLength)),
  };
  shared.bytes.set(bytes);
  shared.ends.set(ends);
  return shared;
}
