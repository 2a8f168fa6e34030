import { AcceptanceByPosition } from "../policy/acceptance.js";
import { chooseDepth } from "../policy/depth.js";
import { StepCost, type StepCostPrior } from "../policy/step-cost.js";
import type { ActorRef, Behaviour, Context } from "../runtime/actor.js";
import type { AppMessage, MessageNamed } from "./messages.js";

export interface TunerOptions {
  readonly pairs: number;
  readonly maxDepth: number;
  readonly firstDepth: number;
  readonly prior: StepCostPrior;
  /** Row-steps that acceptance is remembered over. */
  readonly memoryRows: number;
  /** Acceptance of a first draft assumed before any was tried. */
  readonly priorAcceptance: number;
  /** One report in so many is followed by a probe at another depth. */
  readonly probeEvery: number;
}

type Ctx = Context<AppMessage>;

interface LaneState {
  readonly cost: StepCost;
  readonly acceptance: AcceptanceByPosition;
  reports: number;
  chosen: number;
  told: number;
}

/**
 * SpecuStream's actor: learns what drafts yield and what steps cost, lane by lane, and tells each decode lane
 * how deep to draft. Now and then it has a lane try one deeper (or, at full depth, one shallower) for the span
 * of a report: what is never tried can't be known.
 */
export class Tuner implements Behaviour<AppMessage> {
  readonly #lanes: LaneState[];
  #decodes: readonly ActorRef[] = [];

  constructor(readonly options: TunerOptions) {
    this.#lanes = Array.from({ length: options.pairs }, () => ({
      cost: new StepCost(options.prior),
      acceptance: new AcceptanceByPosition(options.maxDepth, options.memoryRows, options.priorAcceptance),
      reports: 0,
      chosen: options.firstDepth,
      told: options.firstDepth,
    }));
  }

  started(ctx: Ctx): void {
    this.#decodes = ctx.refs("decode");
  }

  receive(message: AppMessage, ctx: Ctx): void {
    if (message.type === "stats") this.#learn(message, ctx);
  }

  inspect(): Readonly<Record<string, unknown>> {
    return { depths: this.#lanes.map((lane) => lane.chosen) };
  }

  #learn({ pair, steps, chances, proposed, accepted }: MessageNamed<"stats">, ctx: Ctx): void {
    const lane = this.#lanes[pair];
    const decode = this.#decodes[pair];
    if (lane === undefined || decode === undefined || steps.length === 0) return;
    let rows = 0;
    let contextTokens = 0;
    for (const step of steps) {
      lane.cost.observe(step, step.computeMs);
      rows += step.rows / steps.length;
      contextTokens += step.contextTokens / steps.length;
    }
    lane.acceptance.observe(chances, proposed, accepted);
    lane.reports++;
    lane.chosen = chooseDepth(lane.acceptance, lane.cost, { rows, contextTokens }, this.options.maxDepth);
    const depth = lane.reports % this.options.probeEvery === 0 ? this.#probe(lane.chosen) : lane.chosen;
    if (depth === lane.told) return;
    lane.told = depth;
    ctx.tell(decode, { type: "depth", depth });
  }

  #probe(depth: number): number {
    return depth < this.options.maxDepth ? depth + 1 : depth - 1;
  }
}

/** Builds the tuner; it needs no resources. */
export function tuner(options: TunerOptions): Behaviour<AppMessage> {
  return new Tuner(options);
}
