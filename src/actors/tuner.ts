import { type DraftingLimits, LaneDrafts } from "../policy/drafting.js";
import type { Survival } from "../policy/survival.js";
import type { ActorRef, Behaviour, Context } from "../runtime/actor.js";
import type { AppMessage } from "./messages.js";

export interface TunerOptions {
  readonly drafting: DraftingLimits;
}

type Ctx = Context<AppMessage>;

/**
 * SpecuStream's memory: what every decode lane learns about the worth of drafts comes together here, and goes back to
 * all of them as the prior of their own counts. So a lane that takes the place of a dead one, or has just got its
 * first requests, begins with what the others know. How deep to draft each lane decides itself, at every step.
 */
export class Tuner implements Behaviour<AppMessage> {
  readonly #survival: Survival;
  #decodes: readonly ActorRef[] = [];
  #reports = 0;

  constructor(options: TunerOptions) {
    this.#survival = new LaneDrafts(options.drafting).survival;
  }

  started(ctx: Ctx): void {
    this.#decodes = ctx.refs("decode");
  }

  receive(message: AppMessage, ctx: Ctx): void {
    switch (message.type) {
      case "learnt":
        this.#reports++;
        this.#survival.learn(message.news);
        for (const decode of this.#decodes) this.#tell(decode, ctx);
        // A prefill lane that decodes hears when it has told.
        if (ctx.sender !== undefined && !this.#decodes.includes(ctx.sender)) this.#tell(ctx.sender, ctx);
        return;
      case "hello":
        // A lane is up again, with nothing learnt.
        if (this.#reports > 0 && ctx.sender !== undefined) this.#tell(ctx.sender, ctx);
        return;
    }
  }

  inspect(): Readonly<Record<string, unknown>> {
    return { reports: this.#reports };
  }

  #tell(decode: ActorRef, ctx: Ctx): void {
    ctx.tell(decode, { type: "survival", probabilities: this.#survival.toArray() });
  }
}

/** Builds the tuner; it needs no resources. */
export function tuner(options: TunerOptions): Behaviour<AppMessage> {
  return new Tuner(options);
}
