import { type ErrorCode, StreamServeError } from "../errors.js";
import type { ActorRef, Context } from "../runtime/actor.js";
import { type AppMessage, CANCEL, FINISH, type Journey, LOST } from "./messages.js";

interface Identity {
  readonly request: number;
  readonly attempt: number;
}

/** The last word on an attempt that failed for good. */
export function tellFailed(
  ctx: Context<AppMessage>,
  gateway: ActorRef,
  { request, attempt }: Identity,
  code: ErrorCode,
  reason: string,
  retryAfterMs = 0,
): void {
  ctx.tell(gateway, { type: "failed", request, attempt, code, reason, retryAfterMs });
}

/** The last word on an attempt that was cancelled, for the reason that the cancel gave. */
export function tellCancelled(
  ctx: Context<AppMessage>,
  gateway: ActorRef,
  identity: Identity,
  reason: number,
): void {
  if (reason === CANCEL.preempted) tellLost(ctx, gateway, identity, LOST.preempted);
  else if (reason === CANCEL.deadline)
    tellFailed(ctx, gateway, identity, "deadline_exceeded", DEADLINE_REASON);
  else tellFailed(ctx, gateway, identity, "cancelled", "The request was cancelled.");
}

/** The last word on an attempt that is to be submitted again. */
export function tellLost(
  ctx: Context<AppMessage>,
  gateway: ActorRef,
  { request, attempt }: Identity,
  cause: number,
): void {
  ctx.tell(gateway, { type: "lost", request, attempt, cause });
}

export const DEADLINE_REASON =
  "The request was not done by its deadline: allow more time, or ask for fewer tokens.";

/** The code of an engine's error; anything unknown is `internal`. */
export function codeOf(error: unknown): ErrorCode {
  return error instanceof StreamServeError ? error.code : "internal";
}

/** Whether a request is finished, and how, by what a step drew; `produced` counts its output with that. */
export function finishOf(drawn: { readonly stopped: boolean }, produced: number, journey: Journey): number {
  if (drawn.stopped) return FINISH.stop;
  return produced >= journey.maxTokens ? FINISH.length : FINISH.none;
}
