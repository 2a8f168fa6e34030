/**
 * A ring of spans that one actor writes and the system reads, in a SharedArrayBuffer. The writer overwrites
 * the oldest and never waits; the reader drops records that may have changed while it read them.
 */

/** A stretch of an actor's time, in the system's milliseconds. */
export interface Span {
  readonly actor: string;
  readonly name: string;
  readonly start: number;
  readonly end: number;
  /** 0 if the span belongs to no request. */
  readonly request: number;
  readonly traceId: number;
  readonly value: number;
}

// Words before the records: records written (modulo 2^32), names in the table.
const WRITTEN = 0;
const NAMES = 1;
const PREFIX_BYTES = 64;
const MOST_NAMES = 64;
const NAME_BYTES = 32;
const RECORDS_AT = PREFIX_BYTES + MOST_NAMES * NAME_BYTES;
/** start, end, value as f64; request, trace id, name as u32; 4 bytes of padding. */
const RECORD_BYTES = 40;

/** Memory for the latest `records` spans; a power of two, so that the count may wrap. */
export function createTraceRing(records: number): SharedArrayBuffer {
  return new SharedArrayBuffer(RECORDS_AT + records * RECORD_BYTES);
}

class TraceViews {
  protected readonly words: Int32Array;
  protected readonly f64: Float64Array;
  protected readonly u32: Uint32Array;
  protected readonly table: Buffer;
  protected readonly records: number;

  constructor(buffer: SharedArrayBuffer) {
    this.words = new Int32Array(buffer, 0, PREFIX_BYTES >> 2);
    this.table = Buffer.from(buffer, PREFIX_BYTES, MOST_NAMES * NAME_BYTES);
    this.f64 = new Float64Array(buffer, RECORDS_AT);
    this.u32 = new Uint32Array(buffer, RECORDS_AT);
    this.records = this.u32.length / (RECORD_BYTES >> 2);
  }

  protected nameAt(index: number): string {
    const bytes = this.table.subarray(index * NAME_BYTES, (index + 1) * NAME_BYTES);
    const end = bytes.indexOf(0);
    return bytes.toString("utf8", 0, end < 0 ? NAME_BYTES : end);
  }
}

export class TraceWriter extends TraceViews {
  private readonly numbers = new Map<string, number>();

  constructor(buffer: SharedArrayBuffer) {
    super(buffer);
    for (let i = 0; i < this.words[NAMES]!; i++) this.numbers.set(this.nameAt(i), i);
  }

  write(name: string, start: number, end: number, request: number, traceId: number, value: number): void {
    const written = this.words[WRITTEN]! >>> 0;
    const slot = written % this.records;
    const f = slot * (RECORD_BYTES >> 3);
    const u = slot * (RECORD_BYTES >> 2) + 6;
    this.f64[f] = start;
    this.f64[f + 1] = end;
    this.f64[f + 2] = value;
    this.u32[u] = request;
    this.u32[u + 1] = traceId;
    this.u32[u + 2] = this.numbers.get(name) ?? this.addName(name);
    Atomics.store(this.words, WRITTEN, (written + 1) | 0);
  }

  /** Names past the table's end share its last place, "other". */
  private addName(name: string): number {
    const index = Math.min(this.numbers.size, MOST_NAMES - 1);
    if (this.words[NAMES]! <= index) {
      this.table.write(index === MOST_NAMES - 1 ? "other" : name, index * NAME_BYTES, NAME_BYTES, "utf8");
      Atomics.store(this.words, NAMES, index + 1);
    }
    if (index < MOST_NAMES - 1) this.numbers.set(name, index);
    return index;
  }
}

export class TraceReader extends TraceViews {
  /** Records read or given up, as a count modulo 2^32. */
  private read = 0;

  constructor(
    buffer: SharedArrayBuffer,
    private readonly actor: string,
  ) {
    super(buffer);
  }

  /** The spans written since the last call, oldest first, as far as they were not overwritten. */
  drain(): Span[] {
    const written = Atomics.load(this.words, WRITTEN);
    const unread = (written - this.read) >>> 0;
    const first = (written - Math.min(unread, this.records)) >>> 0;
    const spans: Span[] = [];
    for (let number = first; number !== written >>> 0; number = (number + 1) >>> 0) {
      spans.push(this.recordAt(number % this.records));
    }
    this.read = written >>> 0;
    // The slot of record `now` may be half written: what lay there, and before it, is not to be trusted.
    const now = Atomics.load(this.words, WRITTEN);
    const lost = Math.max(0, ((now - first) >>> 0) + 1 - this.records);
    return spans.slice(lost);
  }

  private recordAt(slot: number): Span {
    const f = slot * (RECORD_BYTES >> 3);
    const u = slot * (RECORD_BYTES >> 2) + 6;
    return {
      actor: this.actor,
      name: this.nameAt(Math.min(this.u32[u + 2]!, MOST_NAMES - 1)),
      start: this.f64[f]!,
      end: this.f64[f + 1]!,
      request: this.u32[u]!,
      traceId: this.u32[u + 1]!,
      value: this.f64[f + 2]!,
    };
  }
}
