import { createReadStream } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { type Readable, Transform } from "node:stream";
import { createInflateRaw } from "node:zlib";

/**
 * Reads one member of a zip archive as a stream: all that a wheel needs, without unpacking the rest. After
 * PKWARE's APPNOTE 6.3.10; no Zip64, no encryption. Every offset and length is checked against the file.
 */

const END_OF_DIRECTORY = 0x06054b50;
const DIRECTORY_ENTRY = 0x02014b50;
const LOCAL_HEADER = 0x04034b50;
const END_BYTES = 22;
const ENTRY_BYTES = 46;
const LOCAL_BYTES = 30;
/** The end record may be followed by a comment of at most this many bytes. */
const MOST_COMMENT_BYTES = 65_535;
const STORED = 0;
const DEFLATED = 8;
const ENCRYPTED_FLAG = 1;

interface Member {
  readonly method: number;
  readonly flags: number;
  readonly compressedBytes: number;
  readonly bytes: number;
  readonly localHeader: number;
}

/**
 * The member's content. The stream fails if the content is longer than the archive says. Throws an Error that
 * says what is wrong with the archive; the caller names the archive.
 */
export async function zipMember(archive: string, name: string): Promise<{ stream: Readable; bytes: number }> {
  const file = await open(archive, "r");
  try {
    const { size } = await file.stat();
    const member = await find(file, size, name);
    if (member.flags & ENCRYPTED_FLAG || (member.method !== STORED && member.method !== DEFLATED)) {
      throw new Error(`${name} is compressed by a method (${member.method}) that is not understood`);
    }
    const header = await read(file, size, member.localHeader, LOCAL_BYTES);
    if (header.readUInt32LE(0) !== LOCAL_HEADER) {
      throw new Error("a local header is damaged");
    }
    const start = member.localHeader + LOCAL_BYTES + header.readUInt16LE(26) + header.readUInt16LE(28);
    if (start + member.compressedBytes > size) {
      throw new Error("it is truncated");
    }
    return { stream: content(archive, start, member), bytes: member.bytes };
  } finally {
    await file.close();
  }
}

function content(archive: string, start: number, member: Member): Readable {
  if (member.compressedBytes === 0) {
    throw new Error("the member is empty");
  }
  const raw = createReadStream(archive, {
    start,
    end: start + member.compressedBytes - 1,
    highWaterMark: 1 << 20,
  });
  const bounded = bound(member.bytes);
  const forward = (error: Error) => bounded.destroy(error);
  if (member.method === STORED) {
    return raw.on("error", forward).pipe(bounded);
  }
  return raw
    .on("error", forward)
    .pipe(createInflateRaw({ chunkSize: 1 << 20 }))
    .on("error", forward)
    .pipe(bounded);
}

/** Passes at most `bytes` on; more is an error. */
function bound(bytes: number): Transform {
  let seen = 0;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      seen += chunk.length;
      if (seen > bytes) {
        done(new Error("a member is longer than the archive says"));
      } else {
        done(null, chunk);
      }
    },
  });
}

async function find(file: FileHandle, size: number, name: string): Promise<Member> {
  const tailBytes = Math.min(size, END_BYTES + MOST_COMMENT_BYTES);
  const tail = await read(file, size, size - tailBytes, tailBytes);
  let end = tail.length - END_BYTES;
  while (end >= 0 && tail.readUInt32LE(end) !== END_OF_DIRECTORY) {
    end--;
  }
  if (end < 0) {
    throw new Error("it is truncated, or no zip archive");
  }
  const directory = await read(file, size, tail.readUInt32LE(end + 16), tail.readUInt32LE(end + 12));
  for (let at = 0; at + ENTRY_BYTES <= directory.length; ) {
    if (directory.readUInt32LE(at) !== DIRECTORY_ENTRY) {
      throw new Error("its directory is damaged");
    }
    const nameEnd = at + ENTRY_BYTES + directory.readUInt16LE(at + 28);
    if (directory.toString("utf8", at + ENTRY_BYTES, nameEnd) === name) {
      return {
        flags: directory.readUInt16LE(at + 8),
        method: directory.readUInt16LE(at + 10),
        compressedBytes: directory.readUInt32LE(at + 20),
        bytes: directory.readUInt32LE(at + 24),
        localHeader: directory.readUInt32LE(at + 42),
      };
    }
    at = nameEnd + directory.readUInt16LE(at + 30) + directory.readUInt16LE(at + 32);
  }
  throw new Error(`it has no member ${name}`);
}

async function read(file: FileHandle, size: number, offset: number, bytes: number): Promise<Buffer> {
  if (offset < 0 || offset + bytes > size) {
    throw new Error("it is truncated");
  }
  const buffer = Buffer.alloc(bytes);
  await file.read(buffer, 0, bytes, offset);
  return buffer;
}
