import type * as z from "zod";
import type { configSchema } from "../config/schema.js";
import type { Sampling } from "../engine/engine.js";
import type { StepCostModel } from "../engine/simulated-cost.js";
import type { SimulatedModel } from "../engine/simulated-model.js";
import type { RequestClass } from "../gateway/generation.js";

/**
 * All that happens to a simulated system, as plain data: a plan and the code decide a run completely. Plans
 * come from a seed (random-plan.ts) or from a named scenario (scenarios/).
 */
export interface Plan {
  readonly name: string;
  /** Seeds what the plan does not fix: message delays, step-time noise. */
  readonly seed: number;
  readonly topology: Topology;
  readonly requests: readonly PlannedRequest[];
  readonly faults: readonly Fault[];
}

export interface Topology {
  readonly pairs: number;
  readonly model: SimulatedModel;
  readonly cost: StepCostModel;
  readonly contextTokens: number;
  readonly blockTokens: 16 | 32;
  readonly totalBlocks: number;
  readonly prefill: { readonly maxRows: number; readonly maxBatchTokens: number };
  readonly decode: { readonly maxRows: number; readonly maxBatchTokens: number };
  readonly maxWaiting: number;
  readonly maxRunning: number;
  readonly maxDepth: number;
  /** Bytes of each edge's ring. */
  readonly ringBytes: number;
  readonly promptSlabBytes: number;
  /** Share by which a step may take longer than predicted. */
  readonly stepNoise: number;
  /** Anything else of the scheduler's configuration; what is absent has its default. */
  readonly scheduler?: SchedulerSettings;
  /** The same of the router's. */
  readonly router?: RouterSettings;
}

export type SchedulerSettings = NonNullable<z.input<typeof configSchema>["scheduler"]>;
export type RouterSettings = NonNullable<z.input<typeof configSchema>["router"]>;

export interface PlannedRequest {
  /** Milliseconds after the start, or, with `after`, after the end of that request (a closed loop). */
  readonly atMs: number;
  readonly after?: number;
  readonly prompt: readonly number[];
  readonly maxTokens: number;
  /** Its seed is the request's number + 1: it tells sequences of the pool apart. */
  readonly sampling: Sampling;
  readonly class: RequestClass;
  readonly tenant?: string;
  readonly deadlineMs: number;
  readonly reader: Reader;
  readonly cancel?: Trigger;
  /** The reader has enough once so many tokens have reached it: the request then ends well. */
  readonly stopAfter?: number;
}

export interface Reader {
  /** Credit from the start. */
  readonly credit: number;
  /** Credit granted every `everyMs`, while the request lives. */
  readonly grant: number;
  readonly everyMs: number;
}

/** A reader that takes everything at once. */
export const EAGER: Reader = { credit: Number.POSITIVE_INFINITY, grant: 0, everyMs: 0 };

/** When something happens: at a time after the request's (or the run's) start, or at a message. */
export type Trigger =
  | { readonly kind: "time"; readonly atMs: number }
  /** As the `nth` message of this type about the request (any, for faults) has been delivered. */
  | { readonly kind: "message"; readonly type: string; readonly nth: number }
  /** Once so many output tokens have reached the reader. */
  | { readonly kind: "tokens"; readonly count: number };

export type Fault =
  /** It can be started again `downMs` later at the soonest: a machine that boots, a device that loads its weights. */
  | { readonly kind: "kill"; readonly actor: string; readonly when: Trigger; readonly downMs?: number }
  /** The actor's thread gets no processor. */
  | { readonly kind: "pause"; readonly actor: string; readonly when: Trigger; readonly forMs: number }
  /** Steps of the lane take `factor` times as long. */
  | {
      readonly kind: "slow";
      readonly actor: string;
      readonly atMs: number;
      readonly forMs: number;
      readonly factor: number;
    }
  /** The `nth` step that the lane begins after `afterMs` (0 when absent) fails as a device does: at its end, with an error. */
  | { readonly kind: "step-fails"; readonly actor: string; readonly nth: number; readonly afterMs?: number }
  /** Messages to the actor find its mailbox full. */
  | { readonly kind: "full"; readonly actor: string; readonly when: Trigger; readonly forMs: number };

export type FaultKind = Fault["kind"];

/** Names of the lanes of pair `pair`. */
export function prefillLane(pair: number): string {
  return `prefill.${pair}`;
}

export function decodeLane(pair: number): string {
  return `decode.${pair}`;
}
