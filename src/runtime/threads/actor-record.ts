import type { ActorRef, ActorSpec, WhenFull } from "../actor.js";
import { Doorbell } from "../doorbell.js";
import { Restarts } from "../restarts.js";
import { RingReader } from "../ring.js";
import { createTraceRing, TraceReader } from "../trace-ring.js";
import type { Incarnation } from "./incarnation.js";
import type { EdgeEnd } from "./setup.js";
import { createStatus, Status } from "./status.js";

/** Spans kept for each actor until they are read: some seconds of a busy lane's, in 160 KB. */
const TRACE_RECORDS = 4096;

/**
 * `starting` and `running`: an incarnation lives. `waiting`: for its restart. `ending`: it was told to stop.
 * `ended`: for good.
 */
export type Phase = "starting" | "running" | "waiting" | "ending" | "ended";

/** What a system keeps of an actor over all its incarnations. */
export class ActorRecord {
  readonly statusBuffer = createStatus();
  readonly status = new Status(this.statusBuffer);
  readonly traceRing = createTraceRing(TRACE_RECORDS);
  readonly traces: TraceReader;
  readonly restarts: Restarts;
  readonly doorbell: Doorbell;
  readonly incoming: Edge[] = [];
  readonly outgoing: Edge[] = [];
  readonly watchers = new Set<ActorRecord>();
  readonly children = new Set<ActorRecord>();
  phase: Phase = "starting";
  incarnation = 0;
  life: Incarnation | undefined;
  restartTimer: NodeJS.Timeout | undefined;
  /** A planned restart, which its policy doesn't count. */
  reloading = false;

  constructor(
    readonly ref: ActorRef,
    /** Replaced when the actor is reloaded with other options. */
    public spec: ActorSpec,
    readonly parent: ActorRecord | undefined,
    readonly bell: SharedArrayBuffer,
  ) {
    this.traces = new TraceReader(this.traceRing, spec.name);
    this.restarts = new Restarts(spec.restart);
    this.doorbell = new Doorbell(bell);
  }

  /** Wakes all that could wait for this actor, or for a wake-up that it died before giving. */
  wakeNeighbours(): void {
    for (const { to } of this.outgoing) to.doorbell.force();
    for (const { from } of this.incoming) from.doorbell.force();
  }
}

/** A ring and its two ends. */
export class Edge {
  private readonly reader: RingReader;

  constructor(
    readonly from: ActorRecord,
    readonly to: ActorRecord,
    readonly whenFull: WhenFull,
    readonly ring: SharedArrayBuffer,
  ) {
    this.reader = new RingReader(ring, whenFull === "drop-oldest");
    from.outgoing.push(this);
    to.incoming.push(this);
  }

  endAtSender(): EdgeEnd {
    return { peer: this.to.ref, whenFull: this.whenFull, ring: this.ring, peerBell: this.to.bell };
  }

  endAtReceiver(): EdgeEnd {
    return { peer: this.from.ref, whenFull: this.whenFull, ring: this.ring, peerBell: this.from.bell };
  }

  get usedBytes(): number {
    return this.reader.used;
  }

  get dropped(): number {
    return this.reader.dropped;
  }

  get publishedEnd(): number {
    return this.reader.publishedEnd;
  }

  /** Takes the edge from both its ends. */
  detach(): void {
    remove(this.from.outgoing, this);
    remove(this.to.incoming, this);
  }

  /** Lets nothing more in and takes out what nobody will read; returns how many frames that were. */
  close(): number {
    this.reader.close();
    const reader = new RingReader(this.ring, this.whenFull === "drop-oldest");
    let frames = 0;
    while (reader.next()) if (reader.release()) frames++;
    return frames;
  }
}

function remove<T>(list: T[], item: T): void {
  const index = list.indexOf(item);
  if (index >= 0) list.splice(index, 1);
}
