import type { AppMessage } from "../../actors/messages.js";
import type { Message } from "../../runtime/actor.js";
import type { HardwareProfile } from "./hardware.js";

/** Milliseconds that the KV of so many tokens takes between the lanes of a pair, without the start of a copy. */
export function handOffMs({ handOff }: HardwareProfile, tokens: number): number {
  return handOff ? (tokens * handOff.bytesPerToken) / (handOff.gigabytesPerSecond * 1e6) : 0;
}

/**
 * The links over which KV moves from prefill lanes to their decode lanes: one a pair, one copy after another. A copy
 * begins when the prompt is computed, so that nothing of it overlaps with prefill: what chunk-by-chunk copies would
 * hide is counted here.
 */
export class HandOffLinks {
  handOffs = 0;
  movedTokens = 0;
  movingMs = 0;
  readonly #freeAt = new Map<string, number>();

  constructor(readonly handOff: HardwareProfile["handOff"]) {}

  /** Milliseconds until a message's receiver may see it: until the KV that it names has come. */
  transitMs(from: string, _to: string, message: Message, now: number): number {
    if (!this.handOff || message.type !== "handoff") return 0;
    const { promptTokens, cachedTokens } = message as AppMessage & { readonly type: "handoff" };
    const { bytesPerToken, gigabytesPerSecond, latencyMs } = this.handOff;
    // What the pair's pool had already does not move.
    const tokens = promptTokens - cachedTokens;
    const copyMs = (tokens * bytesPerToken) / (gigabytesPerSecond * 1e6);
    const endAt = Math.max(now, this.#freeAt.get(from) ?? 0) + latencyMs + copyMs;
    this.#freeAt.set(from, endAt);
    this.handOffs++;
    this.movedTokens += tokens;
    this.movingMs += endAt - now;
    return endAt - now;
  }
}
