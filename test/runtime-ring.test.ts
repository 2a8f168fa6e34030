import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createRing, frameBytes, RingReader, RingWriter } from "../dist/runtime/ring.js";

interface Frame {
  readonly id: number;
  readonly bytes: Uint8Array;
}

function write(writer: RingWriter, { id, bytes }: Frame): boolean {
  const at = writer.reserve(bytes.length);
  if (at < 0) return false;
  writer.views.u8.set(bytes, at);
  writer.commit(bytes.length, id & 0xff, 1, id, id * 3);
  return true;
}

function read(reader: RingReader): Frame | undefined {
  if (!reader.next()) return undefined;
  const frame = { id: reader.correlation, bytes: reader.views.u8.slice(reader.start, reader.end) };
  expect([reader.type, reader.kind, reader.traceId]).toEqual([frame.id & 0xff, 1, frame.id * 3]);
  return reader.release() ? frame : undefined;
}

/** Moves both positions of an empty ring close to where a signed or unsigned 32-bit count wraps. */
function startAt(ring: SharedArrayBuffer, position: number): void {
  const control = new Int32Array(ring, 0, 96);
  control[0] = position;
  control[32] = position;
}

const positions = fc.constantFrom(0, 2 ** 31 - 64, -64, -8, 2 ** 31 - 8, -(2 ** 31));
const commands = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.nat(112).map((bytes) => ({ do: "write" as const, bytes })) },
    { weight: 2, arbitrary: fc.constant({ do: "publish" as const }) },
    { weight: 3, arbitrary: fc.constant({ do: "read" as const }) },
    { weight: 1, arbitrary: fc.constant({ do: "writer dies" as const }) },
    { weight: 1, arbitrary: fc.constant({ do: "reader dies" as const }) },
  ),
  { maxLength: 200 },
);

describe("a ring", () => {
  it("gives what was published, in order, once, whatever the interleaving, the wraps and the deaths", () => {
    fc.assert(
      fc.property(commands, positions, (steps, position) => {
        const ring = createRing(256);
        startAt(ring, position);
        let writer = new RingWriter(ring);
        let reader = new RingReader(ring);
        let staged: Frame[] = [];
        let published: Frame[] = [];
        let id = 0;
        for (const step of steps) {
          if (step.do === "write") {
            const frame = { id: ++id, bytes: new Uint8Array(step.bytes).fill(id) };
            if (write(writer, frame)) staged.push(frame);
            else expect(published.length + staged.length).toBeGreaterThan(0);
          } else if (step.do === "publish") {
            expect(writer.publish()).toBe(staged.length > 0);
            published = [...published, ...staged];
            staged = [];
          } else if (step.do === "read") {
            expect(read(reader)).toEqual(published.shift());
          } else if (step.do === "writer dies") {
            // What it had not published is gone, even half of a frame.
            const at = writer.reserve(16);
            if (at >= 0) writer.views.u8.fill(0xee, at, at + 16);
            writer = new RingWriter(ring);
            staged = [];
          } else {
            // A frame taken in hand and released is never seen again; one not released is.
            reader.next();
            reader = new RingReader(ring);
          }
          expect(reader.used === 0).toBe(published.length === 0);
        }
        for (const frame of published) expect(read(reader)).toEqual(frame);
        expect(reader.next()).toBe(false);
      }),
      { numRuns: 500 },
    );
  });

  it("takes frames of up to half its capacity from every position", () => {
    for (let offset = 0; offset < 256; offset += 8) {
      const ring = createRing(256);
      startAt(ring, offset);
      const writer = new RingWriter(ring);
      const bytes = new Uint8Array(writer.mostPayload).fill(7);
      expect(frameBytes(bytes.length)).toBe(128);
      expect(write(writer, { id: 1, bytes })).toBe(true);
      writer.publish();
      expect(read(new RingReader(ring))).toEqual({ id: 1, bytes });
    }
  });

  it("skips what was published, and says so, when a frame's length can't be true", () => {
    for (const length of [-8, 0, 15, 999, 2 ** 31 - 1]) {
      const ring = createRing(256);
      const writer = new RingWriter(ring);
      write(writer, { id: 1, bytes: new Uint8Array(8) });
      writer.publish();
      writer.views.i32[0] = length;
      const reader = new RingReader(ring);
      expect(() => reader.next()).toThrow(expect.objectContaining({ code: "frame_malformed" }));
      expect(reader.next()).toBe(false);
      write(writer, { id: 2, bytes: new Uint8Array(8) });
      writer.publish();
      expect(read(reader)?.id).toBe(2);
    }
  });

  it("refuses capacities that are no power of two", () => {
    for (const capacity of [0, 1, 63, 96, 2 ** 31, Number.NaN]) {
      expect(() => createRing(capacity)).toThrow(expect.objectContaining({ code: "deployment_invalid" }));
    }
  });
});

describe("an overwriting ring", () => {
  it("drops the oldest frames alone, and gives the rest in order", () => {
    fc.assert(
      fc.property(commands, positions, (steps, position) => {
        const ring = createRing(256);
        startAt(ring, position);
        const writer = new RingWriter(ring, true);
        const reader = new RingReader(ring, true);
        let written = 0;
        let seen = 0;
        let taken = 0;
        for (const step of steps) {
          if (step.do === "write") {
            expect(write(writer, { id: ++written, bytes: new Uint8Array(step.bytes).fill(written) })).toBe(
              true,
            );
            writer.publish();
          } else if (step.do === "read") {
            const frame = read(reader);
            if (frame === undefined) continue;
            expect(frame.id).toBeGreaterThan(seen);
            expect(frame.bytes.every((byte) => byte === (frame.id & 0xff))).toBe(true);
            seen = frame.id;
            taken++;
          }
        }
        for (let frame = read(reader); frame !== undefined; frame = read(reader)) {
          seen = frame.id;
          taken++;
        }
        expect(seen).toBe(written);
        expect(taken + writer.dropped).toBe(written);
      }),
    );
  });

  it("lets a reader know that the frame in its hand was dropped while it read", () => {
    const ring = createRing(256);
    const writer = new RingWriter(ring, true);
    const reader = new RingReader(ring, true);
    write(writer, { id: 1, bytes: new Uint8Array(100) });
    writer.publish();
    expect(reader.next()).toBe(true);
    for (const id of [2, 3]) write(writer, { id, bytes: new Uint8Array(100).fill(id) });
    writer.publish();
    expect(reader.release()).toBe(false);
    expect(read(reader)?.id).toBe(2);
    expect(read(reader)?.id).toBe(3);
  });
});
