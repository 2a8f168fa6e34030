import type { ActorRef, ActorSpec, Behaviour, Message, SlabAllocator } from "../actor.js";
import { ActorCore, type ActorHost, type Kind, type LogLevel, type SendOutcome } from "../actor-core.js";
import { frameBytes } from "../ring.js";
import { RuntimeError } from "../runtime-error.js";
import type { SlabRef } from "../schema.js";
import type { VirtualActor } from "./virtual-actor.js";
import type { Envelope, VirtualEdge } from "./virtual-edge.js";
import type { VirtualSupervisor } from "./virtual-supervisor.js";

interface Sent {
  readonly edge: VirtualEdge;
  readonly envelope: Envelope;
  reserved: boolean;
}

/** One incarnation of an actor under the virtual clock. */
export class VirtualLife implements ActorHost<Message> {
  readonly core: ActorCore<Message>;
  /** What the turn in hand has sent; published when it ends. */
  private sent: Sent[] = [];
  /** What waits behind a full `block` edge, in order; while there is any, the actor takes no turn. */
  private stalled: Sent[] = [];
  private inTurn = false;
  /** Something was done since `drained` was last called. */
  active = true;
  closed = false;
  /** When the job in flight ends; undefined if there is none. */
  jobEndsAt: number | undefined;

  constructor(
    private readonly system: VirtualSupervisor,
    private readonly actor: VirtualActor,
    readonly behaviour: Behaviour<Message>,
  ) {
    this.core = new ActorCore(actor.ref, actor.incarnation, behaviour, system.directory, this);
  }

  /** Runs one turn and publishes what it sent. What it throws has sent nothing. */
  turn(run: () => void): void {
    this.inTurn = true;
    try {
      run();
    } catch (error) {
      for (const { edge, envelope, reserved } of this.sent) if (reserved) edge.release(envelope.bytes);
      this.sent = [];
      throw error;
    } finally {
      this.inTurn = false;
    }
    this.publish();
    if (!this.core.working) this.jobEndsAt = undefined;
    else this.jobEndsAt ??= this.system.scheduler.now + this.core.jobVirtualMs * this.actor.slowness;
  }

  get blocked(): boolean {
    return this.stalled.length > 0;
  }

  /** Sends on what waits, as far as there is room. */
  unblock(): void {
    this.sent = this.stalled;
    this.stalled = [];
    this.publish();
  }

  close(): void {
    this.closed = true;
    for (const { edge, envelope, reserved } of this.stalled) if (reserved) edge.release(envelope.bytes);
    this.stalled = [];
  }

  // For the context.

  now(): number {
    return this.system.scheduler.now;
  }

  send(to: ActorRef, message: Message, kind: Kind, correlation: number, traceId: number): SendOutcome {
    const edge = this.actor.edgeTo.get(to);
    if (edge === undefined) {
      const names = `"${this.actor.spec.name}" to "${this.core.nameOf(to)}"`;
      throw new RuntimeError("unknown_edge", `The deployment has no edge from ${names}.`);
    }
    if (this.closed || edge.to.phase === "ended") return this.gone();
    const bytes = frameBytes(this.system.payloadBytes(message));
    if (bytes > edge.spec.bytes / 2) {
      const to = `the edge to "${edge.spec.to}"`;
      throw new RuntimeError(
        "message_too_large",
        `A "${message.type}" of ${bytes} bytes does not fit ${to}.`,
      );
    }
    const waits = this.blocked || this.sent.some((one) => !one.reserved);
    const block = edge.spec.whenFull === "block";
    const reserved = !(waits && block) && edge.reserve(bytes, this.system.scheduler.now);
    if (!reserved && !block) return "refused";
    const envelope = { message: this.system.copy(message), kind, correlation, traceId, bytes };
    if (this.blocked) this.stalled.push({ edge, envelope, reserved });
    else this.sent.push({ edge, envelope, reserved });
    if (!this.inTurn) this.publish();
    return "sent";
  }

  deadLetter(): void {
    this.system.deadLetters++;
  }

  watch(ref: ActorRef): void {
    this.system.watch(this.actor, ref);
  }

  spawn(spec: ActorSpec): ActorRef {
    return this.system.spawn(this.actor, spec);
  }

  stop(ref: ActorRef): void {
    this.system.stopActor(ref);
  }

  bytes(ref: SlabRef): Uint8Array {
    return this.system.slabs.bytes(ref);
  }

  slab(): SlabAllocator {
    return this.system.slabs.ownedBy(this.actor.spec.name);
  }

  log(level: LogLevel, text: string, fields: Readonly<Record<string, unknown>>): void {
    this.system.options.log?.({ actor: this.actor.spec.name, level, text, fields });
  }

  trace(name: string, start: number, request: number, traceId: number, value: number): void {
    this.system.options.trace?.({
      actor: this.actor.spec.name,
      name,
      start,
      end: this.system.scheduler.now,
      request,
      traceId,
      value,
    });
  }

  wake(): void {
    if (!this.inTurn) {
      this.active = true;
      if (this.core.working)
        this.jobEndsAt ??= this.system.scheduler.now + this.core.jobVirtualMs * this.actor.slowness;
      this.system.scheduler.schedule(this.actor);
    }
  }

  private publish(): void {
    if (this.sent.length === 0) return;
    const { sent } = this;
    const { scheduler } = this.system;
    this.sent = [];
    // What one store publishes is seen at once.
    const seenAt = new Map<VirtualEdge, number>();
    for (const [index, one] of sent.entries()) {
      const { edge, envelope } = one;
      if (edge.to.phase === "ended") {
        if (one.reserved) edge.release(envelope.bytes);
        this.deadLetter();
        continue;
      }
      if (!one.reserved) one.reserved = edge.reserve(envelope.bytes, scheduler.now);
      if (!one.reserved) {
        edge.senderWaits = true;
        this.stalled.push(...sent.slice(index));
        return;
      }
      const at = seenAt.get(edge) ?? scheduler.now + scheduler.messageDelay();
      seenAt.set(edge, at);
      const { transitMs } = this.system.options;
      const way = transitMs?.(edge.spec.from, edge.spec.to, envelope.message, scheduler.now) ?? 0;
      edge.push(envelope, at + way);
      scheduler.schedule(edge.to);
    }
  }

  private gone(): "gone" {
    this.deadLetter();
    return "gone";
  }
}
