import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Codec } from "../dist/runtime/codec.js";
import { viewsOf } from "../dist/runtime/ring.js";
import { RuntimeError } from "../dist/runtime/runtime-error.js";
import {
  bool,
  type Field,
  f32,
  f32s,
  f64,
  i32,
  list,
  type Shape,
  slab,
  text,
  u8,
  u32,
  u32s,
} from "../dist/runtime/schema.js";

const u32Value = fc.nat({ max: 2 ** 32 - 1 });
const f32Value = fc.float({ noNaN: true });

/** Values of a field. */
function valuesOf(field: Field<unknown>): fc.Arbitrary<unknown> {
  switch (field.kind) {
    case "bool":
      return fc.boolean();
    case "u8":
      return fc.nat({ max: 255 });
    case "u32":
      return u32Value;
    case "i32":
      return fc.integer();
    case "f32":
      return f32Value;
    case "f64":
      return fc.double();
    case "slab":
      return fc.record({ slab: u32Value, offset: u32Value, bytes: u32Value });
    case "text":
      return fc.string({ unit: "binary" });
    case "u32s":
      return fc.array(u32Value, { maxLength: 60 }).map((values) => Uint32Array.from(values));
    case "f32s":
      return fc.array(f32Value, { maxLength: 60 }).map((values) => Float32Array.from(values));
    case "list":
      return fc.array(recordsOf(field.element ?? {}), { maxLength: 5 });
  }
}

function recordsOf(shape: Shape): fc.Arbitrary<Record<string, unknown>> {
  return fc.record(Object.fromEntries(Object.entries(shape).map(([name, field]) => [name, valuesOf(field)])));
}

const plain = fc.constantFrom<Field<unknown>>(bool, u8, u32, i32, f32, f64, slab, text, u32s, f32s);
const fieldNames = fc.string({ unit: fc.constantFrom("a", "b", "C", "7", "_"), minLength: 1, maxLength: 4 });
const shapeOf = (fields: fc.Arbitrary<Field<unknown>>, minKeys: number) =>
  fc.dictionary(
    fieldNames.map((name) => `x${name}`),
    fields,
    { minKeys, maxKeys: 7, noNullPrototype: true },
  );
const nested = shapeOf(fc.oneof(plain, shapeOf(plain, 1).map(list)), 1).map(list);
const shapes = shapeOf(fc.oneof({ weight: 4, arbitrary: plain }, { weight: 1, arbitrary: nested }), 0);

/** A protocol, and a message of its second kind. */
const cases = shapes.chain((shape) =>
  recordsOf(shape).map((fields) => ({
    protocol: { other: { a: u8 }, it: shape },
    message: { ...fields, type: "it" },
  })),
);

/** Lone surrogates have no UTF-8; they arrive as U+FFFD. */
const asReceived = (value: unknown): unknown => {
  if (typeof value === "string") return value.toWellFormed();
  if (Array.isArray(value)) return value.map(asReceived);
  if (value === null || typeof value !== "object" || ArrayBuffer.isView(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, asReceived(inner)]));
};

describe("a codec", () => {
  it("gives back every message of every protocol", () => {
    fc.assert(
      fc.property(cases, ({ protocol, message }) => {
        expect(new Codec(protocol).roundTrip(message)).toEqual(asReceived(message));
      }),
      { numRuns: 150 },
    );
  });

  it("answers damaged bytes by frame_malformed or another message, and reads nothing outside", () => {
    const damage = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(cases, damage, fc.integer({ min: -64, max: 64 }), ({ protocol, message }, edits, cut) => {
        const codec = new Codec(protocol);
        const bytes = codec.sizeOf(1, message);
        // The frame lies between bytes that must not be seen: a text or array that holds them gives it away.
        const buffer = new ArrayBuffer(((bytes + 7) & ~7) + 256);
        const views = viewsOf(buffer);
        codec.encode(1, message, views, 128);
        for (const [at, value] of edits) if (bytes > 0) views.u8[128 + (at % bytes)] = value;
        const end = Math.min(Math.max(128 + bytes + cut, 128), buffer.byteLength);
        let decoded: unknown;
        try {
          decoded = codec.decode(1, views, 128, end);
        } catch (error) {
          expect(error).toBeInstanceOf(RuntimeError);
          expect(error).toMatchObject({ code: "frame_malformed" });
          return;
        }
        // What was read has exactly the size of the frame, so nothing can come from beyond it.
        expect(variableBytes(decoded)).toBeLessThanOrEqual(end - 128);
      }),
      { numRuns: 150 },
    );
  });

  it("rejects random bytes of any type without reading outside", () => {
    const protocol = { a: { n: u32, t: text, l: list({ v: u32s, d: f64 }) }, b: { f: f32s, b: bool } };
    const codec = new Codec(protocol);
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 0, maxLength: 200 }), fc.nat(4), (bytes, type) => {
        const views = viewsOf(new ArrayBuffer((bytes.length + 7) & ~7));
        views.u8.set(bytes);
        try {
          expect(variableBytes(codec.decode(type, views, 0, bytes.length))).toBeLessThanOrEqual(bytes.length);
        } catch (error) {
          expect(error).toMatchObject({ code: "frame_malformed" });
        }
      }),
      { numRuns: 1000 },
    );
  });

  it("refuses values outside their field's type, and names the field", () => {
    const codec = new Codec({
      m: { n: u32, b: bool, t: text, u: u32s, l: list({ i: i32 }), s: slab, k: u8 },
    });
    const good = { type: "m", n: 1, b: true, t: "", u: new Uint32Array(1), l: [{ i: 1 }], k: 0 };
    const region = { slab: 0, offset: 8, bytes: 8 };
    for (const [field, value] of [
      ["n", -1],
      ["n", 1.5],
      ["n", Number.NaN],
      ["n", 2 ** 32],
      ["n", "1"],
      ["n", undefined],
      ["b", 1],
      ["t", 7],
      ["u", [1]],
      ["l", "no"],
      ["l", [{ i: 2 ** 31 }]],
      ["s", { slab: 0, offset: -8, bytes: 8 }],
      ["k", 256],
    ] as const) {
      const message = { ...good, s: region, [field]: value };
      expect(() => codec.roundTrip(message)).toThrow(new RegExp(`^m\\.${field}`));
    }
    expect(() => codec.roundTrip({ type: "unknown" })).toThrow(
      expect.objectContaining({ code: "message_invalid" }),
    );
  });

  it("refuses schemas that can't be laid out", () => {
    const shapes: Shape[] = [
      { type: u32 },
      { "a-b": u32 },
      { __proto__x: { kind: "u32" as const }, "": u32 },
      { l: list({}) },
      { x: { kind: "u64" as never } },
    ];
    for (const shape of shapes) {
      expect(() => new Codec({ m: shape })).toThrow(expect.objectContaining({ code: "schema_invalid" }));
    }
  });
});

/** Bytes that the variable parts of a value hold. */
function variableBytes(value: unknown): number {
  if (ArrayBuffer.isView(value)) return value.byteLength;
  if (Array.isArray(value)) return value.reduce((sum: number, one) => sum + variableBytes(one), 0);
  if (value === null || typeof value !== "object") return 0;
  return Object.values(value).reduce((sum: number, one) => sum + variableBytes(one), 0);
}
