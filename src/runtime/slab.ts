import { MemPool } from "@thi.ng/malloc";
import type { SlabAllocator } from "./actor.js";
import { RuntimeError } from "./runtime-error.js";
import type { SlabRef } from "./schema.js";

/**
 * A slab: shared memory in which one actor allocates and others read. The allocator has no atomics, hence one
 * owner. Its state lies in the slab itself, so regions outlive the owner's restarts.
 */

/** The first words: whether the pool was laid out, and whether its owner is inside an allocation. */
const LAID_OUT = 0;
const BUSY = 1;
const PREFIX_BYTES = 64;
const LEAST_BYTES = 256;
/** Offsets are 31-bit in the allocator. */
const MOST_BYTES = 2 ** 31 - 8;

export function createSlab(bytes: number): SharedArrayBuffer {
  if (!Number.isInteger(bytes) || bytes < LEAST_BYTES || bytes > MOST_BYTES) {
    throw new RuntimeError(
      "deployment_invalid",
      `A slab must have from ${LEAST_BYTES} to ${MOST_BYTES} bytes, not ${bytes}.`,
    );
  }
  return new SharedArrayBuffer(bytes & ~7);
}

/** The bytes of a region; throws `slab_invalid` if it lies outside its slab. */
export function slabBytes(slabs: readonly ArrayBufferLike[], ref: SlabRef): Uint8Array {
  const buffer = slabs[ref.slab];
  if (buffer === undefined || ref.offset + ref.bytes > buffer.byteLength) {
    throw new RuntimeError(
      "slab_invalid",
      `No region of ${ref.bytes} bytes at ${ref.offset} in slab ${ref.slab}.`,
    );
  }
  return new Uint8Array(buffer, ref.offset, ref.bytes);
}

/** The owner's hold on a slab. */
export class Slab implements SlabAllocator {
  private readonly pool: MemPool;
  private readonly words: Int32Array;
  /** True when the last owner died inside an allocation: all regions were given up. */
  readonly torn: boolean;

  constructor(
    readonly slab: number,
    buffer: ArrayBufferLike,
  ) {
    this.words = new Int32Array(buffer, 0, 2);
    this.torn = Atomics.load(this.words, BUSY) === 1;
    const keep = Atomics.load(this.words, LAID_OUT) === 1 && !this.torn;
    this.pool = new MemPool({ buf: buffer, start: PREFIX_BYTES, align: 8, skipInitialization: keep });
    Atomics.store(this.words, LAID_OUT, 1);
    Atomics.store(this.words, BUSY, 0);
  }

  allocate(bytes: number): SlabRef | undefined {
    if (!Number.isInteger(bytes) || bytes < 0) {
      throw new RuntimeError("slab_invalid", `Can't allocate ${bytes} bytes.`);
    }
    // The pool has no empty blocks.
    const offset = this.guarded(() => this.pool.malloc(Math.max(bytes, 1)));
    return offset === 0 ? undefined : { slab: this.slab, offset, bytes };
  }

  free(ref: SlabRef): boolean {
    return ref.slab === this.slab && this.guarded(() => this.pool.free(ref.offset));
  }

  freeAll(): void {
    this.guarded(() => this.pool.freeAll());
  }

  get freeBytes(): number {
    return this.pool.stats().available;
  }

  private guarded<T>(change: () => T): T {
    Atomics.store(this.words, BUSY, 1);
    const result = change();
    Atomics.store(this.words, BUSY, 0);
    return result;
  }
}
