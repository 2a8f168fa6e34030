import { type FileHandle, open } from "node:fs/promises";
import type { MetadataValue } from "../../engine/metadata.js";

/** Writes GGUF files (version 3): the header first, then tensor by tensor. */

/** GGUF's type numbers. */
export const TYPE = {
  u8: 0,
  i8: 1,
  u16: 2,
  i16: 3,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  string: 8,
  array: 9,
  u64: 10,
  i64: 11,
  f64: 12,
} as const;

interface ScalarType {
  readonly bytes: number;
  readonly write: (to: DataView, value: number | bigint) => void;
}

const SCALARS: ReadonlyMap<number, ScalarType> = new Map([
  [TYPE.u8, { bytes: 1, write: (to, value) => to.setUint8(0, Number(value)) }],
  [TYPE.i8, { bytes: 1, write: (to, value) => to.setInt8(0, Number(value)) }],
  [TYPE.u16, { bytes: 2, write: (to, value) => to.setUint16(0, Number(value), true) }],
  [TYPE.i16, { bytes: 2, write: (to, value) => to.setInt16(0, Number(value), true) }],
  [TYPE.u32, { bytes: 4, write: (to, value) => to.setUint32(0, Number(value), true) }],
  [TYPE.i32, { bytes: 4, write: (to, value) => to.setInt32(0, Number(value), true) }],
  [TYPE.f32, { bytes: 4, write: (to, value) => to.setFloat32(0, Number(value), true) }],
  [TYPE.f64, { bytes: 8, write: (to, value) => to.setFloat64(0, Number(value), true) }],
  [TYPE.u64, { bytes: 8, write: (to, value) => to.setBigUint64(0, BigInt(value), true) }],
  [TYPE.i64, { bytes: 8, write: (to, value) => to.setBigInt64(0, BigInt(value), true) }],
]);

/** Element types of arrays of numbers; booleans come as bytes, and are written as such. */
const ARRAYS: readonly (readonly [abstract new (...args: never[]) => ArrayBufferView, number])[] = [
  [Uint8Array, TYPE.u8],
  [Int8Array, TYPE.i8],
  [Uint16Array, TYPE.u16],
  [Int16Array, TYPE.i16],
  [Uint32Array, TYPE.u32],
  [Int32Array, TYPE.i32],
  [Float32Array, TYPE.f32],
  [Float64Array, TYPE.f64],
  [BigUint64Array, TYPE.u64],
  [BigInt64Array, TYPE.i64],
];

export interface GgufEntry {
  readonly key: string;
  readonly value: MetadataValue;
  /** GGUF's type number; of numbers alone it matters. */
  readonly type: number;
}

export interface GgufTensor {
  readonly name: string;
  /** Innermost first. */
  readonly shape: readonly number[];
  /** GGUF's number. */
  readonly format: number;
  readonly bytes: number;
}

const VERSION = 3;
const ALIGNMENT = 32;

export class GgufWriter {
  readonly #file: FileHandle;
  readonly #tensors: readonly GgufTensor[];
  #next = 0;

  private constructor(file: FileHandle, tensors: readonly GgufTensor[]) {
    this.#file = file;
    this.#tensors = tensors;
  }

  /** Creates the file, which must not exist, with its header. Throws errors of the file system. */
  static async create(
    path: string,
    entries: readonly GgufEntry[],
    tensors: readonly GgufTensor[],
  ): Promise<GgufWriter> {
    const file = await open(path, "wx");
    const writer = new GgufWriter(file, tensors);
    await writer.#write(header(entries, tensors)).catch(async (error: unknown) => {
      await file.close();
      throw error;
    });
    return writer;
  }

  /** The bytes of the next tensor, in the order given. */
  async tensor(bytes: Uint8Array): Promise<void> {
    const wanted = this.#tensors[this.#next++];
    if (wanted?.bytes !== bytes.length) {
      throw new RangeError(`${wanted?.name} takes ${wanted?.bytes} bytes, not ${bytes.length}.`);
    }
    await this.#write(bytes);
    await this.#write(Buffer.alloc(padding(bytes.length)));
  }

  /** Puts all on the disk and closes; `tensor` must have been called for every one. */
  async finish(): Promise<void> {
    if (this.#next !== this.#tensors.length) throw new RangeError(`${this.#next} tensors were written.`);
    await this.#file.sync();
    await this.#file.close();
  }

  /** Closes what is not finished. */
  async abandon(): Promise<void> {
    await this.#file.close();
  }

  async #write(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      done += (await this.#file.write(bytes, done, bytes.length - done)).bytesWritten;
    }
  }
}

function header(entries: readonly GgufEntry[], tensors: readonly GgufTensor[]): Buffer {
  const parts: Uint8Array[] = [
    Buffer.from("GGUF"),
    scalar(TYPE.u32, VERSION),
    scalar(TYPE.u64, tensors.length),
    scalar(TYPE.u64, entries.length),
  ];
  for (const { key, value, type } of entries) parts.push(text(key), ...valued(value, type));
  let offset = 0;
  for (const { name, shape, format, bytes } of tensors) {
    parts.push(
      text(name),
      scalar(TYPE.u32, shape.length),
      ...shape.map((extent) => scalar(TYPE.u64, extent)),
    );
    parts.push(scalar(TYPE.u32, format), scalar(TYPE.u64, offset));
    offset += bytes + padding(bytes);
  }
  const all = Buffer.concat(parts);
  return Buffer.concat([all, Buffer.alloc(padding(all.length))]);
}

function padding(bytes: number): number {
  return (ALIGNMENT - (bytes % ALIGNMENT)) % ALIGNMENT;
}

function scalar(type: number, value: number | bigint): Uint8Array {
  const known = SCALARS.get(type);
  if (known === undefined) throw new RangeError(`GGUF has no type ${type} of numbers.`);
  const bytes = new Uint8Array(known.bytes);
  known.write(new DataView(bytes.buffer), value);
  return bytes;
}

function text(value: string): Uint8Array {
  const bytes = Buffer.from(value, "utf8");
  return Buffer.concat([scalar(TYPE.u64, bytes.length), bytes]);
}

function valued(value: MetadataValue, type: number): Uint8Array[] {
  const typed = (number: number) => scalar(TYPE.u32, number);
  if (typeof value === "string") return [typed(TYPE.string), text(value)];
  if (typeof value === "boolean") return [typed(TYPE.bool), Uint8Array.of(value ? 1 : 0)];
  if (typeof value === "number" || typeof value === "bigint") return [typed(type), scalar(type, value)];
  if (ArrayBuffer.isView(value)) {
    const element = ARRAYS.find(([kind]) => value instanceof kind)?.[1] ?? TYPE.u8;
    const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
    return [typed(TYPE.array), typed(element), scalar(TYPE.u64, value.length), bytes];
  }
  return [typed(TYPE.array), typed(TYPE.string), scalar(TYPE.u64, value.length), ...value.map(text)];
}
