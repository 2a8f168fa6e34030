import type { AppMessage } from "../../actors/messages.js";
import type { LaneEngine } from "../../engine/engine.js";
import type { Behaviour, Context, SlabAllocator } from "../../runtime/actor.js";

/** Ways to step between an actor and its world, or a lane and its engine, without a hook in either. */

type Ctx = Context<AppMessage>;

export interface Interference {
  /** In place of delivering `message`: call `pass` with what is to be delivered, or not at all. */
  readonly receive?: (message: AppMessage, pass: (message: AppMessage) => void, ctx: Ctx) => void;
  /** In place of sending `message` to the actor named `to`; true pretends that it was sent. */
  readonly tell?: (
    to: string,
    message: AppMessage,
    send: (message: AppMessage) => boolean,
    ctx: Ctx,
  ) => boolean;
  /** In place of the actor's slab. */
  readonly slab?: (slab: SlabAllocator) => SlabAllocator;
}

/** The behaviour with an interference between it and its context. */
export function interfere(
  behaviour: Behaviour<AppMessage>,
  interference: Interference,
): Behaviour<AppMessage> {
  const contexts = new WeakMap<Ctx, Ctx>();
  const contextOf = (ctx: Ctx): Ctx => {
    let bent = contexts.get(ctx);
    if (!bent) {
      bent = bendContext(ctx, interference);
      contexts.set(ctx, bent);
    }
    return bent;
  };
  return {
    receive(message, ctx): void {
      const pass = (passed: AppMessage) => behaviour.receive(passed, contextOf(ctx));
      if (interference.receive) interference.receive(message, pass, ctx);
      else pass(message);
    },
    started: (ctx) => behaviour.started?.(contextOf(ctx)),
    terminated: (ref, restarting, ctx) => behaviour.terminated?.(ref, restarting, contextOf(ctx)),
    drained: (ctx) => behaviour.drained?.(contextOf(ctx)),
    inspect: () => behaviour.inspect?.() ?? {},
    stopped: (ctx) => behaviour.stopped?.(contextOf(ctx)),
  };
}

function bendContext(ctx: Ctx, { tell, slab }: Interference): Ctx {
  return new Proxy(ctx, {
    get(target, key) {
      if (key === "tell" && tell) {
        return (to: Parameters<Ctx["tell"]>[0], message: AppMessage) =>
          tell(target.nameOf(to), message, (sent) => target.tell(to, sent), target);
      }
      if (key === "slab" && slab) return () => slab(target.slab());
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
    set: (target, key, value) => Reflect.set(target, key, value, target),
  });
}

/** The engine with some of its methods replaced. */
export function bendEngine(engine: LaneEngine, changes: Partial<LaneEngine>): LaneEngine {
  return {
    limits: engine.limits,
    createSequence: (prompt, outputFrom, sampling) => engine.createSequence(prompt, outputFrom, sampling),
    release: (sequence) => engine.release(sequence),
    handOver: (sequence, toLane) => engine.handOver(sequence, toLane),
    adopt: (sequence) => engine.adopt(sequence),
    releaseStranded: () => engine.releaseStranded(),
    length: (sequence) => engine.length(sequence),
    submit: (rows) => engine.submit(rows),
    kv: () => engine.kv(),
    close: () => engine.close(),
    ...changes,
  };
}

/** True at every `n`th call. */
export function everyNth(n: number): () => boolean {
  let calls = 0;
  return () => ++calls % n === 0;
}
