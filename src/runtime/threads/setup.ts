import type { MessagePort } from "node:worker_threads";
import type { ActorRef, ActorSpec, ExportRef, WhenFull } from "../actor.js";
import type { LogLevel } from "../actor-core.js";

/** What travels between a system and its workers outside the rings. All of it can be cloned. */

/** One end of an edge, and the doorbell of the actor at the other end. */
export interface EdgeEnd {
  readonly peer: ActorRef;
  readonly whenFull: WhenFull;
  readonly ring: SharedArrayBuffer;
  readonly peerBell: SharedArrayBuffer;
}

export interface SlabSetup {
  readonly owner: ActorRef;
  readonly buffer: SharedArrayBuffer;
}

/** How an actor waits and polls. */
export interface Tuning {
  /** How long a worker with an empty mailbox looks again before it sleeps, in microseconds. */
  readonly spinUs: number;
  /** Messages taken from one edge before the next edge gets its turn. */
  readonly batch: number;
}

/**
 * 5 us of spinning catch an answer from a peer that is awake; more would take cores from compute threads.
 * 64 messages an edge keep a flooding sender from starving the others.
 */
export const DEFAULT_TUNING: Tuning = { spinUs: 5, batch: 64 };

/** Everything that an actor's thread needs to run one incarnation of it. */
export interface ActorSetup {
  readonly ref: ActorRef;
  readonly incarnation: number;
  readonly spec: ActorSpec;
  readonly protocolRef: ExportRef;
  readonly names: readonly (readonly [string, ActorRef])[];
  readonly incoming: readonly EdgeEnd[];
  readonly outgoing: readonly EdgeEnd[];
  readonly slabs: readonly SlabSetup[];
  readonly bell: SharedArrayBuffer;
  readonly status: SharedArrayBuffer;
  /** Control calls made to earlier incarnations. */
  readonly controls: number;
  readonly traceRing: SharedArrayBuffer;
  /** One word: the next free ref. */
  readonly nextRef: SharedArrayBuffer;
  readonly clockOrigin: bigint;
  readonly tuning: Tuning;
}

/** A thread's first message: the actor that it is to run, and its end of the control plane. */
export interface Assignment {
  readonly setup: ActorSetup;
  readonly control: MessagePort;
}

/** Edges that came with an actor spawned elsewhere. */
export interface Attachment {
  readonly name: string;
  readonly ref: ActorRef;
  readonly incoming: readonly EdgeEnd[];
  readonly outgoing: readonly EdgeEnd[];
}

/** An actor died. */
export interface Notice {
  readonly ref: ActorRef;
  readonly restarting: boolean;
  /** End of what it had published to the actor noticed, if there is an edge: read up to there first. */
  readonly publishedEnd: number | undefined;
}

/** Called on a worker through comlink. */
export interface Control {
  inspect(): Readonly<Record<string, unknown>>;
  /** Drains the mailbox, ends the behaviour and the thread. */
  stop(): void;
  attach(attachment: Attachment): void;
  notice(notice: Notice): void;
}

/** What a child needs that its parent has made, since `spawn` returns before the system knows. */
export interface SpawnOrder {
  readonly ref: ActorRef;
  readonly spec: ActorSpec;
  readonly bell: SharedArrayBuffer;
  readonly rings: readonly SharedArrayBuffer[];
}

/** What an actor asks of its system. */
export type ActorEvent =
  | { readonly kind: "ready" }
  | { readonly kind: "stopped" }
  | { readonly kind: "failed"; readonly error: Error }
  | { readonly kind: "watch"; readonly ref: ActorRef }
  | { readonly kind: "stop"; readonly ref: ActorRef }
  | { readonly kind: "spawn"; readonly order: SpawnOrder }
  | {
      readonly kind: "log";
      readonly level: LogLevel;
      readonly text: string;
      readonly fields: Readonly<Record<string, unknown>>;
    };
