import fc from "fast-check";
import { expect, it } from "vitest";
import type { SlabRef } from "../dist/runtime/schema.js";
import { createSlab, Slab, slabBytes } from "../dist/runtime/slab.js";

it("gives regions that never overlap and takes each back once, across restarts of the owner", () => {
  const commands = fc.array(
    fc.oneof(
      { weight: 3, arbitrary: fc.nat(300).map((bytes) => ({ do: "allocate" as const, bytes })) },
      { weight: 2, arbitrary: fc.nat().map((which) => ({ do: "free" as const, which })) },
      { weight: 1, arbitrary: fc.constant({ do: "restart" as const }) },
    ),
    { maxLength: 80 },
  );
  fc.assert(
    fc.property(commands, (steps) => {
      const buffer = createSlab(4096);
      let slab = new Slab(3, buffer);
      const live: { ref: SlabRef; mark: number }[] = [];
      let mark = 0;
      for (const step of steps) {
        if (step.do === "restart") slab = new Slab(3, buffer);
        else if (step.do === "allocate") {
          const ref = slab.allocate(step.bytes);
          if (ref === undefined) continue;
          expect(ref).toMatchObject({ slab: 3, bytes: step.bytes });
          expect(ref.offset % 8).toBe(0);
          mark = (mark + 1) & 0xff;
          slabBytes([buffer, buffer, buffer, buffer], ref).fill(mark);
          live.push({ ref, mark });
        } else if (live.length > 0) {
          const { ref } = live.splice(step.which % live.length, 1)[0]!;
          expect(slab.free(ref)).toBe(true);
          expect(slab.free(ref)).toBe(false);
        }
        for (const { ref, mark } of live) {
          expect(slabBytes([buffer, buffer, buffer, buffer], ref).every((byte) => byte === mark)).toBe(true);
        }
      }
      const used = live.length;
      for (const { ref } of live) expect(slab.free(ref)).toBe(true);
      if (used > 0) expect(slab.freeBytes).toBe(new Slab(3, createSlab(4096)).freeBytes);
    }),
  );
});

it("refuses what is no region of it", () => {
  const buffer = createSlab(1024);
  const slab = new Slab(0, buffer);
  const ref = slab.allocate(64)!;
  expect(slab.free({ slab: 1, offset: ref.offset, bytes: 64 })).toBe(false);
  expect(slab.free({ slab: 0, offset: ref.offset + 8, bytes: 8 })).toBe(false);
  expect(slab.allocate(2000)).toBeUndefined();
  for (const region of [
    { slab: 0, offset: 1000, bytes: 64 },
    { slab: 1, offset: 0, bytes: 8 },
  ]) {
    expect(() => slabBytes([buffer], region)).toThrow(expect.objectContaining({ code: "slab_invalid" }));
  }
  expect(() => slab.allocate(-1)).toThrow(expect.objectContaining({ code: "slab_invalid" }));
});

it("starts afresh when its owner died inside an allocation", () => {
  const buffer = createSlab(1024);
  const slab = new Slab(0, buffer);
  slab.allocate(100);
  // The word that an allocation holds at 1 while it changes the free list.
  new Int32Array(buffer)[1] = 1;
  const next = new Slab(0, buffer);
  expect([slab.torn, next.torn]).toEqual([false, true]);
  expect(next.freeBytes).toBe(new Slab(0, createSlab(1024)).freeBytes);
});
