import type { AppMessage } from "../actors/messages.js";
import type { Behaviour, Context } from "../runtime/actor.js";

/** What an actor was given a turn for. */
export type Turn =
  | { readonly kind: "started" | "drained" | "stopped" | "timer" }
  | { readonly kind: "message"; readonly from: string; readonly message: AppMessage }
  | { readonly kind: "terminated"; readonly actor: string; readonly restarting: boolean };

type Ctx = Context<AppMessage>;

/** Passes every turn on to `behaviour`, and tells `seen` of it before. */
export function observed(
  behaviour: Behaviour<AppMessage>,
  seen: (turn: Turn) => void,
): Behaviour<AppMessage> {
  return {
    receive(message: AppMessage, ctx: Ctx): void {
      if (ctx.sender === undefined) seen({ kind: "timer" });
      else seen({ kind: "message", from: ctx.nameOf(ctx.sender), message });
      behaviour.receive(message, ctx);
    },
    started(ctx: Ctx): void {
      seen({ kind: "started" });
      behaviour.started?.(ctx);
    },
    terminated(ref, restarting, ctx): void {
      seen({ kind: "terminated", actor: ctx.nameOf(ref), restarting });
      behaviour.terminated?.(ref, restarting, ctx);
    },
    drained(ctx: Ctx): void {
      seen({ kind: "drained" });
      behaviour.drained?.(ctx);
    },
    inspect: () => behaviour.inspect?.() ?? {},
    stopped(ctx: Ctx): void {
      seen({ kind: "stopped" });
      behaviour.stopped?.(ctx);
    },
  };
}

/** The requests that a message is about, by the gateway's numbers. */
export function requestsOf(message: AppMessage): number[] {
  if (message.type === "tokens") return message.rows.map((row) => row.request);
  return "request" in message ? [message.request] : [];
}

/** A turn in a few words, for the history. */
export function describeTurn(turn: Turn): string {
  if (turn.kind === "terminated") return `hears that ${turn.actor} died${turn.restarting ? "" : " for good"}`;
  if (turn.kind !== "message") return turn.kind;
  const { message, from } = turn;
  const about = requestsOf(message).map((request, i) => `${request}.${attemptOf(message, i)}`);
  return `${message.type} ${about.join(" ")} from ${from}`;
}

function attemptOf(message: AppMessage, row: number): number | string {
  if (message.type === "tokens") {
    const { attempt, index, count, finish } = message.rows[row]!;
    return `${attempt}[${index}+${count}${finish ? " end" : ""}]`;
  }
  return "attempt" in message ? message.attempt : "";
}
