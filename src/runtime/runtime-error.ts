/** Failures of the runtime itself, by their stable code. */
export type RuntimeErrorCode =
  /** A frame's bytes do not follow its schema: memory was overwritten, or two protocols were mixed. */
  | "frame_malformed"
  /** A message given to `tell` or `ask` does not fit its schema. */
  | "message_invalid"
  /** A message that can't fit its edge's ring: a frame takes at most half of it. */
  | "message_too_large"
  /** No actor of that name, or no edge between the two. */
  | "unknown_actor"
  | "unknown_edge"
  /** Actors wait for each other's mailboxes in a circle. */
  | "edge_cycle"
  | "schema_invalid"
  | "deployment_invalid"
  | "slab_invalid"
  | "context_misused"
  | "actor_failed"
  | "system_stopped";

/** A failure with a stable code and a sentence that says what to do. */
export class RuntimeError extends Error {
  override readonly name = "RuntimeError";

  constructor(
    readonly code: RuntimeErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** What was thrown, as an Error. */
export function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}
