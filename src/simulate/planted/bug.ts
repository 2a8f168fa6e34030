import type { Plan } from "../plan.js";
import { decodeLane, type Fault } from "../plan.js";
import type { Tampering } from "../run.js";
import { plan, TOPOLOGY, uniform } from "../scenario.js";
import { FEW_AT_A_TIME, twoTenants } from "../scenarios/classes.js";
import type { Invariant } from "../violation.js";

/** A bug put into the system on purpose: a simulator that does not notice it is no good. */
export interface PlantedBug {
  readonly name: string;
  readonly about: string;
  /** The invariants one of which it must be caught by. */
  readonly caughtBy: readonly Invariant[];
  readonly plan: Plan;
  /** Fresh for each run: bugs count. */
  readonly tampering: () => Tampering;
}

const LOAD = { seed: 50, count: 24, everyMs: 25, promptTokens: 70, maxTokens: 20 };

/** Nothing unusual happens. */
export const CALM = plan("calm", { requests: uniform(LOAD) });

/** Every third request has a long answer and is cancelled after a few tokens of it. */
export const CANCELS = plan("cancels", {
  requests: uniform(LOAD, (request, i) =>
    i % 3 ? request : { ...request, maxTokens: 400, cancel: { kind: "tokens", count: 4 } },
  ),
});

/** Decode lanes die while requests run, and as hand-offs are on their way to them. */
export const DEATHS = plan("deaths", {
  requests: uniform(LOAD),
  faults: [4, 9, 14].map(
    (nth): Fault => ({
      kind: "kill",
      actor: decodeLane(nth % 2),
      when: { kind: "message", type: "tokens", nth: nth * 3 },
    }),
  ),
});

/** A pool with little to spare: a block given back is written again soon. */
export const TIGHT = plan("tight", { topology: { ...TOPOLOGY, totalBlocks: 20 }, requests: uniform(LOAD) });

/** Prompts with a common beginning, and room for the cache to matter. */
export const SHARED = plan("shared prefixes", {
  requests: uniform({ ...LOAD, promptTokens: 100 }, (request, i) => ({
    ...request,
    prompt: request.prompt.map((id, at) => (at < 64 ? ((i % 2) * 7 + at) % 64 : id)),
  })),
});

/** Deadlines that pass while requests run. */
export const DEADLINES = plan("deadlines", {
  requests: uniform(LOAD, (request) => ({ ...request, maxTokens: 200, deadlineMs: 900 })),
});

/** Readers with little credit. */
export const CREDIT = plan("credit", {
  requests: uniform(LOAD, (request) => ({ ...request, reader: { credit: 3, grant: 2, everyMs: 150 } })),
});

/** Offline answers that take long, and interactive requests once those are being decoded. */
export const CLASSES = plan("classes", {
  requests: uniform(LOAD, (request, i) =>
    i < 8
      ? { ...request, atMs: 0, class: "offline", maxTokens: 400 }
      : { ...request, atMs: 2_000 + request.atMs, maxTokens: 60 },
  ),
});

/** A tenant that floods, and one that does not. */
export const TENANTS = plan("tenants", { topology: FEW_AT_A_TIME, requests: twoTenants() });
