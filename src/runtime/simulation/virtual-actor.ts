import type { ActorRef, ActorSpec } from "../actor.js";
import { Restarts } from "../restarts.js";
import type { Timer } from "../timers.js";
import type { VirtualEdge } from "./virtual-edge.js";
import type { VirtualLife } from "./virtual-life.js";

/** News of a death, which its receiver hears after all that the dead actor had sent it. */
export interface VirtualNotice {
  readonly ref: ActorRef;
  readonly restarting: boolean;
  /** Messages of the dead actor to take first. */
  unread: number;
}

/** What the simulation keeps of an actor over all its incarnations. */
export class VirtualActor {
  readonly incoming: VirtualEdge[] = [];
  readonly outgoing: VirtualEdge[] = [];
  /** `outgoing` by receiver. */
  readonly edgeTo = new Map<ActorRef, VirtualEdge>();
  /** Those of `incoming` that hold a message: few, of the thousands that a gateway may have. */
  readonly unread = new Set<VirtualEdge>();
  readonly watchers = new Set<VirtualActor>();
  readonly children = new Set<VirtualActor>();
  readonly notices: VirtualNotice[] = [];
  readonly restarts: Restarts;
  phase: "running" | "waiting" | "ending" | "ended" = "waiting";
  incarnation = 0;
  life: VirtualLife | undefined;
  /** The next event that looks at this actor. */
  next: Timer | undefined;
  /** What `next` was planned for: its time, but for the random part. */
  nextFor = 0;
  /** The event that starts it (again). */
  launch: Timer | undefined;
  /** Takes no turn until then. */
  pausedUntil = 0;
  /** Can't be started before. */
  downUntil = 0;
  /** Multiplies the time of its turns and jobs. */
  slowness = 1;

  constructor(
    readonly ref: ActorRef,
    readonly spec: ActorSpec,
    readonly parent: VirtualActor | undefined,
  ) {
    this.restarts = new Restarts(spec.restart);
  }
}
