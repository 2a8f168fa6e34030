import { type DraftingLimits, LaneDrafts } from "../policy/drafting.js";
import type { Survival } from "../policy/survival.js";
import type { ActorRef, Behaviour, Context } from "../runtime/actor.js";
import type { AppMessage } from "./messages.js";

export interface TunerOptions {
  readonly drafting: DraftingLimits;
}

type Ctx = Context<AppMessage>;

/** Lanes told at each report, at most: of thousands all would be told by all. */
const MOST_TOLD = 8;

/**
 * SpecuStream's memory: what every decode lane learns about the worth of drafts comes together here, and goes back to
 * them, to some at each report in turn, as the prior of their own counts. So a lane that takes the place of a dead one, or has just got its
 * first requests, begins with what the others know. How deep to draft each lane decides itself, at every step.
 */
export class Tuner implements Behaviour<AppMessage> {
  readonly #survival: Survival;
  #decodes: readonly ActorRef[] = [];
  #reports = 0;
  /** Whose turn to be told is next. */
  #next = 0;

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
        this.#tell(this.#told(ctx.sender), ctx);
        return;
      case "hello":
        // A lane is up again, with nothing learnt.
        if (this.#reports > 0 && ctx.sender !== undefined) this.#tell([ctx.sender], ctx);
        return;
    }
  }

  inspect(): Readonly<Record<string, unknown>> {
    return { reports: this.#reports };
  }

  /** The next lanes in turn, and who has just told, a prefill lane that decodes too. */
  #told(sender: ActorRef | undefined): readonly ActorRef[] {
    const lanes = this.#decodes;
    const count = Math.min(MOST_TOLD, lanes.length);
    const told = Array.from({ length: count }, (_, i) => lanes[(this.#next + i) % lanes.length]!);
    this.#next = (this.#next + count) % lanes.length;
    if (sender !== undefined && !told.includes(sender)) told.push(sender);
    return told;
  }

  #tell(lanes: readonly ActorRef[], ctx: Ctx): void {
    const probabilities = this.#survival.toArray();
    for (const lane of lanes) ctx.tell(lane, { type: "survival", probabilities });
  }
}

/** Builds the tuner; it needs no resources. */
export function tuner(options: TunerOptions): Behaviour<AppMessage> {
  return new Tuner(options);
}
