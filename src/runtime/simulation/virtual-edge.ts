import type { EdgeSpec, Message } from "../actor.js";
import type { Kind } from "../actor-core.js";
import type { VirtualActor } from "./virtual-actor.js";

export interface Envelope {
  readonly message: Message;
  readonly kind: Kind;
  readonly correlation: number;
  readonly traceId: number;
  /** What its frame would take in a ring. */
  readonly bytes: number;
}

interface Arrival {
  readonly envelope: Envelope;
  at: number;
}

/** An edge's mailbox under the virtual clock: bounded in bytes like the ring it stands for, first in first out. */
export class VirtualEdge {
  private readonly arrivals: Arrival[] = [];
  /** Its place among the receiver's edges. */
  readonly order: number;
  /** Bytes reserved or unread. */
  usedBytes = 0;
  dropped = 0;
  /** Looks full until then. */
  jammedUntil = 0;
  /** Set while the sender waits for room. */
  senderWaits = false;

  constructor(
    readonly spec: EdgeSpec,
    readonly from: VirtualActor,
    readonly to: VirtualActor,
  ) {
    from.outgoing.push(this);
    from.edgeTo.set(to.ref, this);
    this.order = to.incoming.push(this);
  }

  get length(): number {
    return this.arrivals.length;
  }

  /** When the first unread message can be seen; Infinity if there is none. */
  get firstAt(): number {
    return this.arrivals[0]?.at ?? Number.POSITIVE_INFINITY;
  }

  /** Takes room for a frame; false if there is none now. */
  reserve(bytes: number, now: number): boolean {
    if (now < this.jammedUntil) return false;
    if (this.spec.whenFull === "drop-oldest") {
      while (this.usedBytes + bytes > this.spec.bytes && this.arrivals.length > 0) {
        this.take();
        this.dropped++;
      }
    }
    if (this.usedBytes + bytes > this.spec.bytes) return false;
    this.usedBytes += bytes;
    return true;
  }

  release(bytes: number): void {
    this.usedBytes -= bytes;
  }

  /** Adds a message whose room was reserved; it is seen at `at`, but not before those sent earlier. */
  push(envelope: Envelope, at: number): void {
    this.arrivals.push({ envelope, at: Math.max(at, this.arrivals.at(-1)?.at ?? 0) });
    this.to.unread.add(this);
  }

  /** Takes the first message out. */
  take(): Envelope {
    const { envelope } = this.arrivals.shift()!;
    this.usedBytes -= envelope.bytes;
    if (this.arrivals.length === 0) this.to.unread.delete(this);
    return envelope;
  }

  /** The reader is gone for good: returns how many messages nobody will read. */
  clear(): number {
    const left = this.arrivals.length;
    while (this.arrivals.length > 0) this.take();
    return left;
  }
}
