import type { ActorSpec, BehaviourFactory, Message } from "../actor.js";
import type { LogEntry } from "../threads/system.js";
import type { Span } from "../trace-ring.js";
import type { Simulation } from "./simulation.js";

/** The functions that stand behind an actor's `ExportRef`s. */
export interface VirtualFunctions<M extends Message> {
  readonly behaviour: BehaviourFactory<M, never, never>;
  /** What a worker's async `resources` would give, at once. */
  readonly resources?: (options: never, incarnation: number) => unknown;
}

export interface SimulationOptions<M extends Message = Message> {
  /** The same seed, deployment and calls give the same run. */
  readonly seed: number;
  /** The functions of an actor; asked once for each incarnation. */
  readonly functions: (spec: ActorSpec) => VirtualFunctions<M>;
  /** A message's way takes a time between these, in milliseconds: by default what doorbells and busy cores cost. */
  readonly delayMs?: { readonly least: number; readonly most: number };
  /**
   * What a message takes besides, in milliseconds, until the receiver may see it: data that moves with it. Those sent
   * later along the same edge wait for it. 0 when absent.
   */
  readonly transitMs?: (from: string, to: string, message: M, now: number) => number;
  /** A turn takes up to so long, in milliseconds. */
  readonly turnMs?: number;
  /** From the end of a restart's delay until the actor lives, in milliseconds; a worker thread takes about 40. */
  readonly startMs?: number;
  /** Encode and decode every message, as rings do; else receivers see the sender's object. */
  readonly roundTrip?: boolean;
  /** Called after every event: check invariants here. What it throws ends the run. */
  readonly afterEvent?: (sim: Simulation) => void;
  /** An actor died and will not be started again; by default the run ends with the error. */
  readonly failed?: (name: string, error: Error) => void;
  /** An actor died of what it threw, whatever happens next. */
  readonly died?: (name: string, error: Error) => void;
  readonly log?: (entry: LogEntry) => void;
  readonly trace?: (span: Span) => void;
}

export interface RunLimits {
  /** Stop before the first event later than this. */
  readonly untilMs?: number;
  /** Stop after so many events. */
  readonly events?: number;
}
