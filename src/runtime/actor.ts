/** The contract between an actor and whatever hosts it: a worker thread, the main thread or the simulator. */

import type { Protocol, SlabRef } from "./schema.js";

/** Any message: a tagged record declared by a protocol (see schema.ts). */
export interface Message {
  readonly type: string;
}

/** Names an actor for as long as its system runs; it survives the actor's restarts. */
export type ActorRef = number & { readonly __actor: unique symbol };

export type TimerId = number & { readonly __timer: unique symbol };

/** Why an `ask` got no reply. */
export type AskFailure = "timeout" | "refused" | "terminated";

/**
 * Work that runs beside an actor, on a device or in native threads. The host starts it, goes on delivering
 * messages while there are any, then waits for it, and hands the result to `done`.
 */
export interface Job<R> {
  /** True once `collect` would return at once. */
  finished(): boolean;
  /** Blocks the calling thread until the job has ended; throws what the job failed with. */
  collect(): R;
  /** Simulated jobs alone: how long the job takes on the virtual clock, in milliseconds. */
  readonly virtualMs?: number;
  /** Of these, jobs that others on the same device put off: how long is left, asked once `virtualMs` is over; 0: nothing. */
  leftMs?(): number;
}

/** Allocates regions of the slab that an actor owns. The slab's contents outlive the owner's restarts. */
export interface SlabAllocator {
  readonly slab: number;
  /** A region of `bytes` bytes, contents undefined; undefined when the slab has no room for it. */
  allocate(bytes: number): SlabRef | undefined;
  /** Gives a region back; false if it is not one that `allocate` gave, or was freed already. */
  free(ref: SlabRef): boolean;
  /** Gives all regions back: for a restarted owner that knows that no reader is left. */
  freeAll(): void;
  readonly freeBytes: number;
}

/**
 * All that an actor sees of the world. A main-thread actor may keep its context and use it between messages,
 * from a socket's callback for example; a worker's context is of use only inside the calls of its behaviour.
 */
export interface Context<M extends Message> {
  readonly self: ActorRef;
  /** Increases by one with each restart of this actor; 0 at first. */
  readonly incarnation: number;
  /** Sender of the message in hand; undefined for timers, jobs and watch events. */
  readonly sender: ActorRef | undefined;
  /** Travels with every message sent from this turn; taken from the message in hand; 0: none. May be set. */
  traceId: number;
  /** The actor of that name; throws if the deployment has none. */
  ref(name: string): ActorRef;
  /** All actors whose name is `role` or `role.<index>`, in index order. */
  refs(role: string): readonly ActorRef[];
  nameOf(ref: ActorRef): string;
  /** Milliseconds on a clock that all actors of a system share; never goes back. */
  now(): number;
  /**
   * Sends a message; throws if there is no edge to `to`. What a turn sends is published when it ends, but for
   * floods on `block` edges; a turn that throws sends nothing more. To an actor that has ended for good it
   * returns false (a dead letter). On a full `block` edge it waits; on a full `refuse` edge it returns false
   * and nothing was sent; on a full `drop-oldest` edge the oldest unread frames give way. Otherwise true.
   */
  tell(to: ActorRef, message: M): boolean;
  /** Sends a message and hands the reply, or why there is none, to `then`. */
  ask(to: ActorRef, message: M, timeoutMs: number, then: (reply: M | AskFailure) => void): void;
  /** Answers the message in hand, if it was an `ask`; else a plain `tell` to its sender. */
  reply(message: M): boolean;
  /** Delivers `message` to this actor after `ms`. */
  after(ms: number, message: M): TimerId;
  cancelTimer(timer: TimerId): void;
  /** Starts `start()` and hands what its job gives to `done`, between two messages. One job at a time. */
  work<R>(start: () => Job<R>, done: (result: R) => void, failed: (error: Error) => void): void;
  /** True while a job started by `work` has not been handed back. */
  readonly working: boolean;
  /** Calls `terminated` of this actor's behaviour whenever `ref` dies or restarts. */
  watch(ref: ActorRef): void;
  /** Starts a child under this actor's supervision. Edges to and from it are as its spec says. */
  spawn(spec: ActorSpec): ActorRef;
  stop(ref: ActorRef): void;
  /** The bytes of a slab region; valid while the region's owner keeps it. */
  bytes(ref: SlabRef): Uint8Array;
  /** The allocator of the slab that this actor owns; throws if the deployment gives it none. */
  slab(): SlabAllocator;
  log(
    level: "debug" | "info" | "warn" | "error",
    text: string,
    fields?: Readonly<Record<string, unknown>>,
  ): void;
  /** Writes a span that began at `startMs` and ends now to this actor's trace ring, if tracing is on. */
  trace(name: string, startMs: number, request?: number, value?: number): void;
}

/** An actor: what it does with a message. It has no clock, thread, timer or socket of its own. */
export interface Behaviour<M extends Message> {
  receive(message: M, ctx: Context<M>): void;
  /** Called once before the first message, and again after each restart on a fresh behaviour. */
  started?(ctx: Context<M>): void;
  /** A watched actor died. `restarting` says whether its supervisor starts it again. */
  terminated?(ref: ActorRef, restarting: boolean, ctx: Context<M>): void;
  /** Called when the mailbox has been drained, before parking: where a lane starts its next step. */
  drained?(ctx: Context<M>): void;
  /** Asked by the control plane; must be plain data. */
  inspect?(): Readonly<Record<string, unknown>>;
  /** Graceful stop: the last call. Not called when the actor is killed. */
  stopped?(ctx: Context<M>): void;
}

/**
 * Builds a behaviour. `options` is plain data from the deployment; `resources` is what the host provides
 * beyond messages (a lane's engine): real on a worker thread, simulated under the virtual clock.
 */
export type BehaviourFactory<M extends Message, O, R> = (options: O, resources: R) => Behaviour<M>;

/** Where to find a function: a module's URL and the name of its export. */
export interface ExportRef {
  readonly module: string;
  readonly name: string;
}

export interface ActorSpec {
  /** `role` or `role.<index>`; unique in the system. */
  readonly name: string;
  /** A `BehaviourFactory`; left out for a main-thread actor whose object is handed to `ActorSystem.start`. */
  readonly behaviour?: ExportRef;
  /** Plain data, cloned to the actor's thread. */
  readonly options: unknown;
  /** An async function of `options` and the incarnation, run on the actor's thread before its behaviour is built. */
  readonly resources?: ExportRef;
  /** `worker` (default): a thread of its own. `main`: shares the host's thread, woken by `waitAsync`. */
  readonly thread?: "worker" | "main";
  readonly restart?: RestartPolicy;
  /** Of a spawned actor alone: the edges between it and others. */
  readonly edges?: readonly EdgeSpec[];
}

export interface RestartPolicy {
  /** Restarts allowed within `withinMs`; one more fails the parent. */
  readonly most: number;
  readonly withinMs: number;
  /** Delay before the first restart; doubles up to `mostDelayMs` while deaths go on. */
  readonly delayMs: number;
  readonly mostDelayMs: number;
}

export type WhenFull = "block" | "refuse" | "drop-oldest";

/**
 * A one-way path for messages between two actors. Refused at start: a cycle of `block` edges, and a `block`
 * edge that leaves a main-thread actor, whose wait would stop the event loop.
 */
export interface EdgeSpec {
  readonly from: string;
  readonly to: string;
  readonly whenFull: WhenFull;
  /** Capacity of the ring in bytes; a power of two. A frame takes at most half of it. */
  readonly bytes: number;
}

/** Everything needed to start a system, on threads or in the simulator. */
export interface Deployment {
  readonly protocol: Protocol;
  /** Where a worker finds the protocol again: it cannot be cloned. */
  readonly protocolRef: ExportRef;
  readonly actors: readonly ActorSpec[];
  readonly edges: readonly EdgeSpec[];
  readonly slabs: readonly SlabSpec[];
}

export interface SlabSpec {
  /** The actor that allocates and frees regions of this slab; it owns no other. */
  readonly owner: string;
  readonly bytes: number;
}
