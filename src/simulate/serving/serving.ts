import type * as z from "zod";
import type { Config, configSchema } from "../../config/schema.js";
import type { RequestClass } from "../../gateway/generation.js";
import type { Fault } from "../plan.js";
import type { HardwareProfile } from "./hardware.js";

/** Any keys of the configuration, as a file would hold them; what is absent has its default. */
export type Settings = z.input<typeof configSchema>;

/** A request's tokens, made when they are needed: a hundred thousand prompts would not fit memory at once. */
export interface RequestText {
  readonly prompt: Uint32Array;
  /** What is answered, token by token; absent: tokens drawn by the simulated model. */
  readonly answer?: ArrayLike<number>;
}

export interface ServingRequest {
  /** When it comes, in milliseconds; in a closed loop the order alone counts. */
  readonly atMs: number;
  readonly promptTokens: number;
  /** Tokens after which the answer ends by itself. */
  readonly outputTokens: number;
  /** Output tokens that the client asks for, at most; absent: exactly as many as it gets. */
  readonly maxTokens?: number;
  readonly class?: RequestClass;
  readonly tenant?: string;
  /** Where it comes from, for results by set. */
  readonly set?: string;
  readonly text: () => RequestText;
}

export interface Workload {
  readonly requests: readonly ServingRequest[];
  /** A closed loop of so many users, each with one request under way; absent: requests come at their times. */
  readonly users?: number;
  /** Pause of a user between an answer and the next request, in milliseconds. */
  readonly thinkMs?: number;
}

/** What is promised: a request is good if it keeps both; 0: nothing is asked. */
export interface Objectives {
  readonly ttftMs: number;
  readonly tpotMs: number;
}

export interface ServingSetup {
  readonly hardware: HardwareProfile;
  /** Stream pairs, thousands if need be. */
  readonly pairs: number;
  /** Laid over what `hardware.config` says. */
  readonly settings?: Settings;
  readonly objectives: Objectives;
  /** Equal seeds, setups and workloads give equal results. */
  readonly seed: number;
  /**
   * What is drawn for requests that bring no answer: of so many tokens, the next one following from the last alone at
   * such a share of positions. Absent: of as many as texts have, and none that drafts foretell.
   */
  readonly drawn?: { readonly vocabulary: number; readonly draftability: number };
  /** How many times longer steps of a lane take; 1 when absent. */
  readonly slowness?: (lane: string) => number;
  /** What befalls the actors, at times from the start: those of the simulator's seeds. A trigger by message never fires. */
  readonly faults?: readonly Fault[];
  /** Virtual time after the last arrival at which a run is given up, in milliseconds: 10 minutes when absent. */
  readonly patienceMs?: number;
}

export interface RequestOutcome {
  readonly atMs: number;
  readonly set: string;
  /** `done`, or the code of what it failed with. */
  readonly outcome: string;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly outputTokens: number;
  /** Milliseconds from submission to admission, first token and end; NaN where it never came to that. */
  readonly queuedMs: number;
  readonly ttftMs: number;
  readonly totalMs: number;
  /** Mean milliseconds a token after the first; NaN with one token. */
  readonly tpotMs: number;
  /** The longest that its reader waited for more after the first token, in milliseconds. */
  readonly stillMs: number;
  readonly draftTokens: number;
  readonly acceptedTokens: number;
}

/** What the lanes of a kind did. */
export interface LaneUse {
  readonly lanes: number;
  readonly steps: number;
  /** Computing time of all, in milliseconds. */
  readonly busyMs: number;
  /** New tokens and rows of all steps. */
  readonly tokens: number;
  readonly rows: number;
}

/** What became of a fault, in milliseconds from the start of the run. */
export interface Strike {
  readonly fault: Fault;
  readonly fromMs: number;
  /** When it was over: of a death, when the actor lived again; Infinity if that was after the run. */
  readonly toMs: number;
}

export interface ServingRun {
  readonly config: Config;
  /** In the order of their ends. */
  readonly requests: readonly RequestOutcome[];
  readonly prefill: LaneUse;
  readonly decode: LaneUse;
  /** Hand-offs from prefill to decode lanes, their KV tokens, and milliseconds that they were on their way. */
  readonly handOffs: number;
  readonly movedTokens: number;
  readonly movingMs: number;
  /** Faults that struck, in that order. */
  readonly strikes: readonly Strike[];
  /** Actors that were started again, and requests that were sent again since what served them had died. */
  readonly restarts: number;
  readonly resumptions: number;
  /** Virtual milliseconds from the first arrival to the last end; turns of actors. */
  readonly spanMs: number;
  readonly events: number;
}
