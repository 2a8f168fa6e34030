import { blocksFor } from "../policy/admission.js";
import { FlowGuard, type FlowGuardConstants } from "../policy/flow-guard.js";
import { chainOf, PrefixMap, type PrefixMapOptions } from "../policy/prefix-map.js";
import type { ActorRef, Behaviour, Context } from "../runtime/actor.js";
import { ANY_PAIR, type AppMessage, type MessageNamed, PROMISE } from "./messages.js";
import { Outbox } from "./outbox.js";
import { copyPrompt } from "./prompt-region.js";

export interface RouterOptions {
  readonly pairs: number;
  readonly blockTokens: number;
  readonly guard: FlowGuardConstants;
  readonly prefixes: PrefixMapOptions;
}

type Ctx = Context<AppMessage>;

/**
 * FlowGuard's actor: takes what the scheduler admits to the pair of least predicted cost. It keeps no request:
 * what it sends is in the lane's mailbox before its turn ends. Audits take the same way, and so do cancels; but
 * these go to the decode lane at once too, which should not wait for a step of the prefill lane before it.
 */
export class Router implements Behaviour<AppMessage> {
  readonly #guard: FlowGuard;
  readonly #prefixes: PrefixMap;
  #gone: Uint8Array;
  #prefills: readonly ActorRef[] = [];
  #decodes: readonly ActorRef[] = [];
  #lanes = new Map<ActorRef, { pair: number; role: "prefill" | "decode" }>();
  #scheduler!: Outbox;
  #routed = 0;
  #direct = 0;
  #kept = 0;

  constructor(readonly options: RouterOptions) {
    const { pools } = options.prefixes;
    this.#guard = new FlowGuard(
      options.pairs,
      options.guard,
      Array.from({ length: options.pairs }, (_, pair) => pair % pools),
    );
    this.#prefixes = new PrefixMap(options.prefixes);
    this.#gone = new Uint8Array(options.pairs);
  }

  started(ctx: Ctx): void {
    this.#prefills = ctx.refs("prefill");
    this.#decodes = ctx.refs("decode");
    this.#scheduler = new Outbox(ctx.ref("scheduler"));
    for (const role of ["prefill", "decode"] as const) {
      ctx.refs(role).forEach((ref, pair) => {
        this.#lanes.set(ref, { pair, role });
        ctx.watch(ref);
      });
    }
    this.#scheduler.send(ctx, { type: "hello", incarnation: ctx.incarnation });
  }

  receive(message: AppMessage, ctx: Ctx): void {
    if (message.type === "retry") this.#scheduler.retry(ctx);
    else this.#scheduler.flush(ctx);
    switch (message.type) {
      case "route":
        this.#route(message, ctx);
        return;
      case "cancel": {
        const known = message.pair !== ANY_PAIR && message.pair < this.options.pairs;
        for (const pair of known ? [message.pair] : this.#prefills.keys()) {
          ctx.tell(this.#prefills[pair]!, message);
          ctx.tell(this.#decodes[pair]!, message);
        }
        return;
      }
      case "hold":
        for (const pair of this.#prefills.keys()) {
          ctx.tell(this.#prefills[pair]!, message);
          ctx.tell(this.#decodes[pair]!, message);
        }
        return;
      case "audit":
      case "reset":
        this.#prefills.forEach((prefill, pair) => {
          // One that is gone for good passes nothing on to its decode lane.
          if (!ctx.tell(prefill, message)) ctx.tell(this.#decodes[pair]!, message);
        });
        return;
      case "load":
        this.#load(message, ctx);
        return;
      case "judged": {
        const { pair, of, objectiveMs } = message;
        this.#guard.judged(pair, of === PROMISE.token, objectiveMs, message.missed === 1, ctx.now());
        return;
      }
      case "hello": {
        const lane = ctx.sender === undefined ? undefined : this.#lanes.get(ctx.sender);
        if (lane && message.incarnation > 0) this.#guard.up(lane.pair, lane.role);
        return;
      }
    }
  }

  terminated(ref: ActorRef, restarting: boolean): void {
    const lane = this.#lanes.get(ref);
    if (!lane) return;
    this.#guard.down(lane.pair, lane.role);
    if (!restarting) this.#gone[lane.pair] = 1;
  }

  inspect(): Readonly<Record<string, unknown>> {
    const { prefill, decode } = this.#guard.roles.lending;
    const counts = { routed: this.#routed, direct: this.#direct, kept: this.#kept };
    const { missedFirst, missedTokens } = this.#guard;
    return { ...counts, prefillLends: prefill, decodeLends: decode, missedFirst, missedTokens };
  }

  #route(message: MessageNamed<"route">, ctx: Ctx): void {
    const { pools, grainTokens } = this.options.prefixes;
    const prompt = copyPrompt(message, ctx.bytes(message.prompt));
    const chain = chainOf(prompt, grainTokens, message.salt0);
    // What KV is reserved for is as long as such answers mostly are.
    const tokens = message.reservedTokens || message.outputFrom + message.maxTokens;
    const query = {
      promptTokens: message.promptTokens,
      outputTokens: Math.max(1, tokens - message.promptTokens),
      blocks: blocksFor(tokens, this.options.blockTokens),
      cached: this.#prefixes.cached(chain),
    };
    const startedAt = ctx.now();
    // With every pair down, the first that is to come back has it in its mailbox then.
    const choice = this.#guard.choose(query, ctx.now());
    const pair = choice?.pair ?? this.#gone.indexOf(0);
    const { direct, keep } = choice ?? { direct: false, keep: false };
    const lane = (direct ? this.#decodes : this.#prefills)[pair];
    if (lane === undefined) return;
    const cached = message.promptTokens - this.#guard.uncached(pair, query);
    this.#guard.sent(pair, query, startedAt, { direct, keep });
    this.#prefixes.sent(pair % pools, chain);
    this.#routed++;
    if (direct) this.#direct++;
    if (keep) this.#kept++;
    const { request, attempt, generation } = message;
    ctx.tell(lane, {
      ...message,
      cached,
      dueAt: startedAt + (choice?.firstTokenMs ?? 0),
      keep: keep ? 1 : 0,
    });
    ctx.trace("route", startedAt, request, pair);
    this.#scheduler.send(ctx, { type: "routed", request, attempt, generation, pair });
  }

  #load(message: MessageNamed<"load">, ctx: Ctx): void {
    const { taken, pair, stepForMs } = message;
    const now = ctx.now();
    const last = {
      rows: message.lastRows,
      tokens: message.lastTokens,
      contextTokens: message.lastContext,
      ms: message.lastMs,
    };
    if (message.role === 0) {
      const { queuedTokens, contextTokens, endedHere: ended, busyMs, lateMs } = message;
      const { keptRows, keptContext, keptTaken } = message;
      const kept = { keptRows, keptContext, keptTaken };
      const signal = { queuedTokens, contextTokens, taken, ended, busyMs, ...kept, last, lateMs, stepForMs };
      if (this.#guard.prefill(pair, signal, now)) this.#tellRoles(pair, ctx);
      return;
    }
    const { queuedTokens, contextTokens, drawnPerRow, spareBlocks } = message;
    const rows = message.rows + message.queued;
    const signal = { rows, queuedTokens, taken, last, contextTokens, drawnPerRow, spareBlocks, stepForMs };
    if (this.#guard.decode(pair, signal, now)) this.#tellRoles(pair, ctx);
  }

  /** A pair's lanes begin, or cease, to do each other's work. */
  #tellRoles(pair: number, ctx: Ctx): void {
    const { roles } = this.#guard;
    const decodes = roles.keeps(pair);
    const computes = roles.computes(pair);
    ctx.trace("roles", ctx.now(), 0, (decodes ? 1 : 0) + (computes ? 2 : 0));
    ctx.log("debug", "roles", { pair, prefillLaneDecodes: decodes, decodeLaneComputesPrompts: computes });
  }
}

/** Builds the router; it needs no resources. */
export function router(options: RouterOptions): Behaviour<AppMessage> {
  return new Router(options);
}
