/** Writes GGUF files for tests: small models with random weights, and headers with anything in them. */

export type GgufValue =
  | { readonly type: "u32"; readonly value: number }
  | { readonly type: "f32"; readonly value: number }
  | { readonly type: "bool"; readonly value: boolean }
  | { readonly type: "string"; readonly value: string }
  | { readonly type: "strings"; readonly value: readonly string[] }
  | { readonly type: "i32s"; readonly value: readonly number[] }
  | { readonly type: "f32s"; readonly value: readonly number[] };

export interface GgufTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly format: TensorFormat;
  readonly bytes: Uint8Array;
}

const TYPE_NUMBERS = { u32: 4, f32: 6, bool: 7, string: 8, strings: 9, i32s: 9, f32s: 9 };
const I32 = 5;
const FORMAT_NUMBERS = {
  F32: 0,
  F16: 1,
  BF16: 30,
  Q8_0: 8,
  Q4_0: 2,
  Q4_1: 3,
  Q5_0: 6,
  Q5_1: 7,
  Q2_K: 10,
  Q4_K: 12,
  Q5_K: 13,
  Q6_K: 14,
  IQ4_NL: 20,
};
export type TensorFormat = keyof typeof FORMAT_NUMBERS;
const ALIGNMENT = 32;

class Writer {
  readonly #parts: Buffer[] = [];
  length = 0;

  bytes(part: Uint8Array): void {
    this.#parts.push(Buffer.from(part));
    this.length += part.length;
  }
  u32(value: number): void {
    const part = Buffer.alloc(4);
    part.writeUInt32LE(value);
    this.bytes(part);
  }
  u64(value: number): void {
    const part = Buffer.alloc(8);
    part.writeBigUInt64LE(BigInt(value));
    this.bytes(part);
  }
  f32(value: number): void {
    const part = Buffer.alloc(4);
    part.writeFloatLE(value);
    this.bytes(part);
  }
  string(value: string): void {
    const text = Buffer.from(value);
    this.u64(text.length);
    this.bytes(text);
  }
  pad(): void {
    this.bytes(Buffer.alloc((ALIGNMENT - (this.length % ALIGNMENT)) % ALIGNMENT));
  }
  finish(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

function writeValue(to: Writer, value: GgufValue): void {
  to.u32(TYPE_NUMBERS[value.type]);
  if (value.type === "u32") to.u32(value.value);
  if (value.type === "f32") to.f32(value.value);
  if (value.type === "bool") to.bytes(Uint8Array.of(value.value ? 1 : 0));
  if (value.type === "string") to.string(value.value);
  if (value.type === "strings") {
    to.u32(TYPE_NUMBERS.string);
    to.u64(value.value.length);
    for (const text of value.value) to.string(text);
  }
  if (value.type === "i32s" || value.type === "f32s") {
    to.u32(value.type === "i32s" ? I32 : TYPE_NUMBERS.f32);
    to.u64(value.value.length);
    const numbers = value.type === "i32s" ? Int32Array.from(value.value) : Float32Array.from(value.value);
    to.bytes(new Uint8Array(numbers.buffer));
  }
}

export function ggufFile(
  metadata: Readonly<Record<string, GgufValue>>,
  tensors: readonly GgufTensor[],
  version = 3,
): Buffer {
  const to = new Writer();
  to.bytes(Buffer.from("GGUF"));
  to.u32(version);
  to.u64(tensors.length);
  to.u64(Object.keys(metadata).length);
  for (const [key, value] of Object.entries(metadata)) {
    to.string(key);
    writeValue(to, value);
  }
  let offset = 0;
  for (const tensor of tensors) {
    to.string(tensor.name);
    to.u32(tensor.shape.length);
    for (const extent of tensor.shape) to.u64(extent);
    to.u32(FORMAT_NUMBERS[tensor.format]);
    to.u64(offset);
    offset += Math.ceil(tensor.bytes.length / ALIGNMENT) * ALIGNMENT;
  }
  to.pad();
  for (const tensor of tensors) {
    to.bytes(tensor.bytes);
    to.pad();
  }
  return to.finish();
}
