/**
 * Declares messages once; `codec.ts` compiles each declaration to a fixed-layout encoder and decoder.
 * A schema is data alone, so that the same declaration gives the TypeScript type, the binary layout and
 * the generators of the property tests.
 */

/** A region of a slab: a SharedArrayBuffer that one actor owns and others may read while a request lives. */
export interface SlabRef {
  /** Index of the slab within its system. */
  readonly slab: number;
  /** Offset of the region in bytes; a multiple of 8. */
  readonly offset: number;
  /** Length of the region in bytes. */
  readonly bytes: number;
}

export interface Field<T> {
  readonly kind: FieldKind;
  /** Phantom: carries the TypeScript type of the field's value. */
  readonly value?: T;
  /** For `list`: the schema of one element. */
  readonly element?: Shape;
}

export type FieldKind =
  | "bool"
  | "u8"
  | "u32"
  | "i32"
  | "f32"
  | "f64"
  | "slab"
  // Variable length: counted, placed after the fixed part.
  | "text"
  | "u32s"
  | "f32s"
  | "list";

export type Shape = Readonly<Record<string, Field<unknown>>>;
export type ValueOf<S extends Shape> = {
  readonly [K in keyof S]: S[K] extends Field<infer T> ? T : never;
};

export const bool: Field<boolean> = { kind: "bool" };
export const u8: Field<number> = { kind: "u8" };
export const u32: Field<number> = { kind: "u32" };
export const i32: Field<number> = { kind: "i32" };
export const f32: Field<number> = { kind: "f32" };
export const f64: Field<number> = { kind: "f64" };
export const slab: Field<SlabRef> = { kind: "slab" };
export const text: Field<string> = { kind: "text" };
export const u32s: Field<Uint32Array> = { kind: "u32s" };
export const f32s: Field<Float32Array> = { kind: "f32s" };
export function list<S extends Shape>(element: S): Field<readonly ValueOf<S>[]> {
  return { kind: "list", element };
}

/** Message name -> shape. The order of the names fixes the type numbers on the wire. */
export type Protocol = Readonly<Record<string, Shape>>;

/** The discriminated union of a protocol's messages: `{ type: "submit", request: 7, ... }`. */
export type MessageOf<P extends Protocol> = {
  readonly [K in keyof P & string]: { readonly type: K } & ValueOf<P[K]>;
}[keyof P & string];

/** Names a set of messages; identity at run time, checked by the compiler. */
export function defineProtocol<const P extends Protocol>(protocol: P): P {
  return protocol;
}
