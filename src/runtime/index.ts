/** The actor runtime alone: declare messages, write behaviours, run them on threads or under a virtual clock. */

export * from "./actor.js";
export { Codec, compileCodec } from "./codec.js";
export { createDoorbell, Doorbell } from "./doorbell.js";
export { createRing, frameBytes, HEADER_BYTES, RingReader, RingWriter } from "./ring.js";
export { RuntimeError, type RuntimeErrorCode } from "./runtime-error.js";
export * from "./schema.js";
export type { RunLimits, SimulationOptions, VirtualFunctions } from "./simulation/options.js";
export { Simulation } from "./simulation/simulation.js";
export {
  type ActorReport,
  ActorSystem,
  type LogEntry,
  type StartOptions,
  type StopOptions,
  type SystemEvents,
} from "./threads/system.js";
export type { Span } from "./trace-ring.js";
