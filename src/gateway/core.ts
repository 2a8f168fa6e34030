import type { TextCodec } from "../model/model.js";
import type { ActorReport } from "../runtime/threads/system.js";
import type { Span } from "../runtime/trace-ring.js";
import type { GenerationService } from "./generation.js";

/** What every door stands on: a running set of actors and the model's text codec. */
export interface ServingCore {
  readonly service: GenerationService;
  readonly codec: TextCodec;
  readonly actors: ActorView;
  /** False once an actor died so often that it was given up: only a new start helps. */
  alive(): boolean;
  /** Cancels what still runs, stops all actors and frees native memory. Idempotent. */
  close(): Promise<void>;
}

/** A look at the actors; `ActorSystem` is one. */
export interface ActorView {
  /** Milliseconds on the clock that spans are measured by. */
  now(): number;
  setTracing(on: boolean): void;
  /** Spans since the last call: there can be one reader. */
  traces(): Span[];
  inspect(): Promise<ActorReport[]>;
}
