import { RuntimeError } from "./runtime-error.js";

/**
 * A single-producer single-consumer ring of frames in a SharedArrayBuffer.
 *
 * Positions are byte counts modulo 2^32 and only grow; the capacity is a power of two of at most 2^30, so
 * the difference of two positions is right across the wrap. Frames start at multiples of 8 and never straddle
 * the end of the data: a pad frame fills what is left there. The producer writes beyond the published tail and
 * makes any number of frames visible by one store, so that nothing of a producer that dies midway is seen.
 * The consumer commits its position frame by frame, before the frame's message is handled: at most once.
 *
 * On an overwriting ring the producer too moves the head, past the oldest frames. Both then move it by
 * compare-and-exchange: a consumer that loses has read bytes that may have changed under it, and drops them.
 */

// Indices into the control words. Each side's words have a cache line pair (128 bytes) of their own.
const HEAD = 0;
const TAIL = 32;
const WAITING = 64;
const CLOSED = 65;
const DROPPED = 66;
const CONTROL_BYTES = 384;

/** Bytes of a frame before its payload: length, type and kind, correlation id, trace id; 4 bytes each. */
export const HEADER_BYTES = 16;
const PAD_TYPE = 0xffff;
const LEAST_CAPACITY = 64;
const MOST_CAPACITY = 2 ** 30;

/** The bytes of a ring's data under every element type that codecs use. */
export interface Views {
  readonly u8: Uint8Array;
  readonly i32: Int32Array;
  readonly u32: Uint32Array;
  readonly f32: Float32Array;
  readonly f64: Float64Array;
  /** For text: Node's buffers read and write UTF-8 in shared memory. */
  readonly bytes: Buffer;
}

export function viewsOf(buffer: ArrayBufferLike, offset = 0, length = buffer.byteLength - offset): Views {
  return {
    u8: new Uint8Array(buffer, offset, length),
    i32: new Int32Array(buffer, offset, length >> 2),
    u32: new Uint32Array(buffer, offset, length >> 2),
    f32: new Float32Array(buffer, offset, length >> 2),
    f64: new Float64Array(buffer, offset, length >> 3),
    bytes: Buffer.from(buffer, offset, length),
  };
}

/** Memory for a ring of `capacity` bytes of frames; throws unless that is a power of two within limits. */
export function createRing(capacity: number): SharedArrayBuffer {
  const powerOfTwo = Number.isInteger(capacity) && (capacity & (capacity - 1)) === 0;
  if (!powerOfTwo || capacity < LEAST_CAPACITY || capacity > MOST_CAPACITY) {
    throw new RuntimeError(
      "deployment_invalid",
      `A ring's capacity must be a power of two from ${LEAST_CAPACITY} to ${MOST_CAPACITY} bytes, not ${capacity}.`,
    );
  }
  return new SharedArrayBuffer(CONTROL_BYTES + capacity);
}

/** Bytes that a frame with such a payload takes in a ring. */
export function frameBytes(payload: number): number {
  return (HEADER_BYTES + payload + 7) & ~7;
}

class RingEnd {
  protected readonly control: Int32Array;
  protected readonly capacity: number;
  protected readonly mask: number;
  readonly views: Views;

  constructor(buffer: SharedArrayBuffer) {
    this.capacity = buffer.byteLength - CONTROL_BYTES;
    this.mask = this.capacity - 1;
    this.control = new Int32Array(buffer, 0, CONTROL_BYTES >> 2);
    this.views = viewsOf(buffer, CONTROL_BYTES);
  }

  /** Set once the reader is gone for good. */
  get closed(): boolean {
    return Atomics.load(this.control, CLOSED) === 1;
  }

  close(): void {
    Atomics.store(this.control, CLOSED, 1);
  }

  /** Bytes published and not yet read. */
  get used(): number {
    return (Atomics.load(this.control, TAIL) - Atomics.load(this.control, HEAD)) | 0;
  }

  /** Frames that an overwriting ring has dropped. */
  get dropped(): number {
    return Atomics.load(this.control, DROPPED) >>> 0;
  }
}

export class RingWriter extends RingEnd {
  private head: number;
  /** End of what is written; runs ahead of the published tail. */
  private staged: number;
  private published: number;
  /** Where the reserved frame starts. */
  private frame = 0;
  readonly mostPayload: number;

  constructor(
    buffer: SharedArrayBuffer,
    private readonly overwrites = false,
  ) {
    super(buffer);
    this.head = Atomics.load(this.control, HEAD);
    this.published = Atomics.load(this.control, TAIL);
    this.staged = this.published;
    this.mostPayload = (this.capacity >> 1) - HEADER_BYTES;
  }

  /** Byte offset (in `views`) for a payload of at most `mostPayload` bytes, or -1 when the ring is full. */
  reserve(payload: number): number {
    const bytes = frameBytes(payload);
    const offset = this.staged & this.mask;
    const toEnd = this.capacity - offset;
    const pad = bytes > toEnd ? toEnd : 0;
    if (!this.hasRoom(pad + bytes)) return -1;
    if (pad > 0) this.header(offset, pad, PAD_TYPE, 0, 0);
    this.frame = (this.staged + pad) | 0;
    return (this.frame & this.mask) + HEADER_BYTES;
  }

  /** Completes the reserved frame; it stays invisible until `publish`. `type` < 65,535, `kind` < 65,536. */
  commit(payload: number, type: number, kind: number, correlation: number, traceId: number): void {
    this.header(this.frame & this.mask, HEADER_BYTES + payload, (kind << 16) | type, correlation, traceId);
    this.staged = (this.frame + frameBytes(payload)) | 0;
  }

  /** Makes all completed frames visible by one store; false if there were none. */
  publish(): boolean {
    if (this.published === this.staged) return false;
    this.published = this.staged;
    Atomics.store(this.control, TAIL, this.staged);
    return true;
  }

  /** True when so much waits for `publish` that the reader should not wait for the rest. */
  get owesMuch(): boolean {
    return ((this.staged - this.published) | 0) > this.capacity >> 3;
  }

  /**
   * Asks the reader to ring this writer's doorbell when it has made room. Call it once the doorbell's flag is
   * up, and `reserve` once more after it.
   */
  awaitRoom(): void {
    Atomics.store(this.control, WAITING, 1);
  }

  private hasRoom(bytes: number): boolean {
    if (this.capacity - ((this.staged - this.head) | 0) >= bytes) return true;
    this.head = Atomics.load(this.control, HEAD);
    if (this.capacity - ((this.staged - this.head) | 0) >= bytes) return true;
    return this.overwrites && this.dropUntil(bytes);
  }

  private dropUntil(bytes: number): true {
    this.publish();
    while (this.capacity - ((this.staged - this.head) | 0) < bytes) {
      const at = (this.head & this.mask) >> 2;
      const length = this.views.i32[at]!;
      const isPad = (this.views.i32[at + 1]! & 0xffff) === PAD_TYPE;
      const next = (this.head + ((length + 7) & ~7)) | 0;
      const found = Atomics.compareExchange(this.control, HEAD, this.head, next);
      if (found === this.head && !isPad) Atomics.add(this.control, DROPPED, 1);
      this.head = found === this.head ? next : found;
    }
    return true;
  }

  private header(offset: number, length: number, type: number, correlation: number, traceId: number): void {
    const { i32 } = this.views;
    const at = offset >> 2;
    // A pad frame of 8 bytes has no room for the ids; stores past the end of a typed array do nothing.
    i32[at] = length;
    i32[at + 1] = type;
    i32[at + 2] = correlation;
    i32[at + 3] = traceId;
  }
}

export class RingReader extends RingEnd {
  private head: number;
  private tail: number;
  private frameEnd = 0;
  // The frame in hand. `start` and `end` bound its payload in `views`.
  type = 0;
  kind = 0;
  correlation = 0;
  traceId = 0;
  start = 0;
  end = 0;

  constructor(
    buffer: SharedArrayBuffer,
    private readonly overwritten = false,
  ) {
    super(buffer);
    this.head = Atomics.load(this.control, HEAD);
    this.tail = this.head;
  }

  /** True when a frame can be read. */
  get ready(): boolean {
    return Atomics.load(this.control, TAIL) !== Atomics.load(this.control, HEAD);
  }

  /** The published end: frames before it were complete when this was read. */
  get publishedEnd(): number {
    return Atomics.load(this.control, TAIL);
  }

  /** True while the read position is before `end`. */
  isBefore(end: number): boolean {
    return ((end - Atomics.load(this.control, HEAD)) | 0) > 0;
  }

  /**
   * Takes the next frame in hand, or returns false. A frame whose header can't be true raises
   * `frame_malformed`, and all that was published is skipped.
   */
  next(): boolean {
    for (;;) {
      if (this.overwritten) this.head = Atomics.load(this.control, HEAD);
      if (this.head === this.tail || this.overwritten) {
        this.tail = Atomics.load(this.control, TAIL);
        if (this.head === this.tail) return false;
      }
      if (!this.readHeader()) {
        if (this.overwritten && Atomics.load(this.control, HEAD) !== this.head) continue;
        this.frameEnd = this.tail;
        this.release();
        throw new RuntimeError("frame_malformed", "A ring holds a frame of impossible length.");
      }
      if (this.type !== PAD_TYPE) return true;
      this.release();
    }
  }

  /** Commits the read position past the frame in hand; false if the producer dropped it while it was read. */
  release(): boolean {
    const { head, frameEnd } = this;
    if (this.overwritten) {
      this.head = Atomics.compareExchange(this.control, HEAD, head, frameEnd);
      return this.head === head;
    }
    this.head = frameEnd;
    Atomics.store(this.control, HEAD, frameEnd);
    return true;
  }

  /** True, once, when the writer waits and at least half of the ring is free: then ring its doorbell. */
  writerWaits(): boolean {
    if (Atomics.load(this.control, WAITING) === 0 || this.used > this.capacity >> 1) return false;
    return Atomics.exchange(this.control, WAITING, 0) === 1;
  }

  private readHeader(): boolean {
    const { i32 } = this.views;
    const offset = this.head & this.mask;
    const at = offset >> 2;
    const length = i32[at]!;
    const word = i32[at + 1]!;
    this.type = word & 0xffff;
    this.kind = word >>> 16;
    this.correlation = i32[at + 2]! >>> 0;
    this.traceId = i32[at + 3]! >>> 0;
    this.start = offset + HEADER_BYTES;
    this.end = offset + length;
    const bytes = (length + 7) & ~7;
    this.frameEnd = (this.head + bytes) | 0;
    const least = this.type === PAD_TYPE ? 8 : HEADER_BYTES;
    const available = (this.tail - this.head) | 0;
    return length >= least && length <= available && bytes <= available && offset + bytes <= this.capacity;
  }
}
