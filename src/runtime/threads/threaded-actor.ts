import type { ActorRef, ActorSpec, Behaviour, Message, SlabAllocator, WhenFull } from "../actor.js";
import { ActorCore, type ActorHost, type Kind, type LogLevel, type SendOutcome } from "../actor-core.js";
import type { Codec } from "../codec.js";
import { Directory } from "../directory.js";
import { Doorbell } from "../doorbell.js";
import { RingReader, RingWriter } from "../ring.js";
import { RuntimeError } from "../runtime-error.js";
import type { SlabRef } from "../schema.js";
import { Slab, slabBytes } from "../slab.js";
import { TraceWriter } from "../trace-ring.js";
import { clockSince } from "./clock.js";
import type { ActorEvent, ActorSetup, Attachment, EdgeEnd, Notice } from "./setup.js";
import { prepareSpawn } from "./spawning.js";
import { Status } from "./status.js";

interface Outgoing {
  readonly writer: RingWriter;
  readonly bell: Doorbell;
  readonly whenFull: WhenFull;
  /** Has completed frames that are not published yet. */
  staged: boolean;
}

interface Incoming {
  readonly from: ActorRef;
  readonly reader: RingReader;
  readonly bell: Doorbell;
}

/** One incarnation of an actor on a real thread: its rings, and its turns. A loop drives it. */
export class ThreadedActor<M extends Message> implements ActorHost<M> {
  readonly core: ActorCore<M>;
  readonly status: Status;
  private readonly bell: Doorbell;
  private readonly directory = new Directory();
  private readonly incoming: Incoming[] = [];
  /** By the receiver's ref. */
  private readonly outgoing: (Outgoing | undefined)[] = [];
  private readonly staged: Outgoing[] = [];
  private readonly notices: Notice[] = [];
  /** Spawned actors known here, whose names are free again once they end. */
  private readonly attached = new Set<ActorRef>();
  private readonly forgotten = new Set<ActorRef>();
  private readonly slabBuffers: readonly SharedArrayBuffer[];
  private ownSlab: Slab | undefined;
  private readonly tracer: TraceWriter;
  private inTurn = false;
  /** What turns send stays unpublished for now. */
  private holding = false;
  /** Something was done since `drained` was last called. */
  private active = true;
  private closed = false;
  readonly now: () => number;

  constructor(
    readonly setup: ActorSetup,
    behaviour: Behaviour<M>,
    private readonly codec: Codec<M>,
    private readonly emit: (event: ActorEvent) => void,
    /** Called when something is to be done that rings no doorbell. */
    readonly wake: () => void,
  ) {
    this.status = new Status(setup.status);
    this.bell = new Doorbell(setup.bell);
    this.tracer = new TraceWriter(setup.traceRing);
    this.now = clockSince(setup.clockOrigin);
    this.slabBuffers = setup.slabs.map(({ buffer }) => buffer);
    for (const [name, ref] of setup.names) this.directory.add(name, ref);
    for (const end of setup.incoming) this.addIncoming(end);
    for (const end of setup.outgoing) this.addOutgoing(end);
    this.core = new ActorCore(setup.ref, setup.incarnation, behaviour, this.directory, this);
  }

  // For the loop.

  start(): void {
    this.turn(() => this.core.start());
  }

  /** Delivers what is there, up to a batch an edge; true if there was anything. */
  poll(): boolean {
    let taken = 0;
    while (this.notices.length > 0) {
      taken++;
      this.takeNotice(this.notices.shift()!);
    }
    if (this.core.nextDueAt !== Number.POSITIVE_INFINITY) {
      this.turn(() => {
        if (this.core.runDue(this.now())) taken++;
      });
    }
    const { tracing } = this.status;
    const began = tracing ? this.now() : 0;
    let messages = 0;
    for (const edge of this.incoming) {
      let left = this.setup.tuning.batch;
      while (left > 0 && this.takeFrame(edge)) left--;
      messages += this.setup.tuning.batch - left;
    }
    if (messages > 0) {
      this.status.addReceived(messages);
      if (tracing) this.trace("mailbox", began, 0, 0, messages);
    }
    if (taken + messages > 0) this.active = true;
    return taken + messages > 0;
  }

  /** Calls the `drained` hook if anything was done since its last call; true if so. */
  drain(): boolean {
    if (!this.active) return false;
    this.active = false;
    this.turn(() => this.core.drained());
    return true;
  }

  /** Waits for the job in flight and hands its result over. */
  finishJob(): void {
    this.active = true;
    this.turn(() => this.core.finishJob());
  }

  /**
   * The same, and what follows: what has come meanwhile is delivered, `drained` may start the next job, and only then
   * is anything published. Whoever is woken may take this thread's core, and the next job is to run by then.
   */
  endJob(): void {
    this.holding = true;
    try {
      this.finishJob();
      this.poll();
      this.drain();
    } finally {
      this.holding = false;
    }
    this.publish();
  }

  end(): void {
    this.turn(() => this.core.stopped());
  }

  get owesDrain(): boolean {
    return this.active;
  }

  /** From now on its context sends nothing: the rings belong to the next incarnation. */
  close(): void {
    this.closed = true;
  }

  /** True when the mailbox is empty and nothing else is owed. */
  readonly isIdle = (): boolean => {
    if (this.notices.length > 0) return false;
    for (const { reader } of this.incoming) if (reader.ready) return false;
    return true;
  };

  addNotice(notice: Notice): void {
    this.notices.push(notice);
  }

  attach({ name, ref, incoming, outgoing }: Attachment): void {
    this.directory.add(name, ref);
    this.attached.add(ref);
    for (const end of incoming) this.addIncoming(end);
    for (const end of outgoing) this.addOutgoing(end);
  }

  inspect(): Readonly<Record<string, unknown>> {
    return this.core.behaviour.inspect?.() ?? {};
  }

  // For the context.

  send(to: ActorRef, message: M, kind: Kind, correlation: number, traceId: number): SendOutcome {
    const edge = this.outgoing[to];
    if (edge === undefined) return this.forgotten.has(to) ? this.gone() : this.noEdge(to);
    const { writer } = edge;
    if (this.closed || writer.closed) return this.gone();
    const type = this.codec.typeOf(message);
    const bytes = this.codec.sizeOf(type, message);
    if (bytes > writer.mostPayload) this.tooLarge(to, message, bytes);
    let at = writer.reserve(bytes);
    if (at < 0) {
      // Its reader can't make room by what it can't see.
      this.publishStaged();
      if (edge.whenFull !== "block") return "refused";
      at = this.awaitRoom(writer, bytes);
      if (at < 0) return this.gone();
    }
    this.codec.encode(type, message, writer.views, at);
    writer.commit(bytes, type, kind, correlation, traceId);
    if (!edge.staged) {
      edge.staged = true;
      this.staged.push(edge);
    }
    // A flood on a block edge overlaps with its reading; elsewhere a turn's messages are seen together.
    if (!this.inTurn || (edge.whenFull === "block" && writer.owesMuch)) this.publishStaged();
    return "sent";
  }

  deadLetter(): void {
    this.status.addDeadLetters(1);
  }

  watch(ref: ActorRef): void {
    this.emit({ kind: "watch", ref });
  }

  spawn(spec: ActorSpec): ActorRef {
    this.directory.checkFree(spec.name);
    const { order, attachment } = prepareSpawn(spec, this.setup);
    this.attach(attachment);
    this.emit({ kind: "spawn", order });
    return order.ref;
  }

  stop(ref: ActorRef): void {
    this.emit({ kind: "stop", ref });
  }

  bytes(ref: SlabRef): Uint8Array {
    return slabBytes(this.slabBuffers, ref);
  }

  slab(): SlabAllocator {
    if (this.ownSlab === undefined) {
      const index = this.setup.slabs.findIndex(({ owner }) => owner === this.setup.ref);
      const buffer = this.slabBuffers[index];
      if (buffer === undefined) {
        throw new RuntimeError("slab_invalid", `"${this.setup.spec.name}" owns no slab.`);
      }
      this.ownSlab = new Slab(index, buffer);
      if (this.ownSlab.torn) {
        this.log("error", "slab was torn by its owner's death; all its regions are given up", {
          slab: index,
        });
      }
    }
    return this.ownSlab;
  }

  log(level: LogLevel, text: string, fields: Readonly<Record<string, unknown>>): void {
    this.emit({ kind: "log", level, text, fields });
  }

  trace(name: string, start: number, request: number, traceId: number, value: number): void {
    if (this.status.tracing) this.tracer.write(name, start, this.now(), request, traceId, value);
  }

  private turn(run: () => void): void {
    this.inTurn = true;
    try {
      run();
    } finally {
      this.inTurn = false;
    }
    this.publish();
  }

  private takeFrame(edge: Incoming): boolean {
    const { reader } = edge;
    if (!reader.next()) return false;
    let message: M;
    try {
      message = this.codec.decode(reader.type, reader.views, reader.start, reader.end);
    } catch (error) {
      // The bytes of a dropped frame may make no sense; those of any other must.
      if (!reader.release()) return true;
      this.deadLetter();
      throw error;
    }
    const { kind, correlation, traceId } = reader;
    if (!reader.release()) return true;
    if (reader.writerWaits()) edge.bell.ring();
    this.inTurn = true;
    try {
      this.core.deliver(edge.from, message, kind as Kind, correlation, traceId);
    } finally {
      this.inTurn = false;
    }
    this.publish();
    return true;
  }

  private takeNotice({ ref, restarting, publishedEnd }: Notice): void {
    const edge = this.incoming.find(({ from }) => from === ref);
    if (edge !== undefined && publishedEnd !== undefined) {
      while (edge.reader.isBefore(publishedEnd) && this.takeFrame(edge)) this.status.addReceived(1);
    }
    if (!restarting && this.attached.delete(ref)) this.forget(ref);
    this.turn(() => this.core.notice(ref, restarting));
  }

  /** Lets go of an ended actor's rings. */
  private forget(ref: ActorRef): void {
    this.directory.remove(ref);
    const index = this.incoming.findIndex(({ from }) => from === ref);
    if (index >= 0) this.incoming.splice(index, 1);
    this.outgoing[ref] = undefined;
    this.forgotten.add(ref);
  }

  private publish(): void {
    if (!this.holding) this.publishStaged();
  }

  private publishStaged(): void {
    // Most turns send nothing; emptying by `pop` is far cheaper than by setting the length.
    for (let edge = this.staged.pop(); edge !== undefined; edge = this.staged.pop()) {
      edge.staged = false;
      if (edge.writer.publish()) edge.bell.ring();
    }
  }

  private awaitRoom(writer: RingWriter, bytes: number): number {
    // Asked with the flag up: an answer to an earlier request can't use this one up and find nobody to wake.
    const isFull = () => {
      writer.awaitRoom();
      return writer.reserve(bytes) < 0 && !writer.closed && !this.status.halted;
    };
    while (!writer.closed && !this.status.halted) {
      const at = writer.reserve(bytes);
      if (at >= 0) return at;
      this.bell.park(isFull, Number.POSITIVE_INFINITY);
    }
    return -1;
  }

  private gone(): "gone" {
    this.deadLetter();
    return "gone";
  }

  private noEdge(to: ActorRef): never {
    const names = `"${this.setup.spec.name}" to "${this.directory.nameOf(to)}"`;
    throw new RuntimeError("unknown_edge", `The deployment has no edge from ${names}.`);
  }

  private tooLarge(to: ActorRef, message: M, bytes: number): never {
    throw new RuntimeError(
      "message_too_large",
      `A "${message.type}" of ${bytes} bytes does not fit the edge to "${this.directory.nameOf(to)}"; ` +
        "make its ring larger or send a slab region.",
    );
  }

  private addIncoming({ peer, whenFull, ring, peerBell }: EdgeEnd): void {
    const reader = new RingReader(ring, whenFull === "drop-oldest");
    this.incoming.push({ from: peer, reader, bell: new Doorbell(peerBell) });
  }

  private addOutgoing({ peer, whenFull, ring, peerBell }: EdgeEnd): void {
    const writer = new RingWriter(ring, whenFull === "drop-oldest");
    this.outgoing[peer] = { writer, bell: new Doorbell(peerBell), whenFull, staged: false };
  }
}
