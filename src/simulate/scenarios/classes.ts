import type { PlannedRequest } from "../plan.js";
import type { RequestResult, RunResult } from "../run-result.js";
import { outcomes, plan, type Scenario, TOPOLOGY, uniform } from "../scenario.js";

/** Who is served when not everybody can be: classes, tenants, objectives, predictions that were wrong. */

const LOAD = { seed: 70, count: 30, everyMs: 20, promptTokens: 90, maxTokens: 24 };
const ONE_PAIR = { ...TOPOLOGY, pairs: 1 };

function firstTokenMs({ summary }: RequestResult): number {
  return summary?.timings.firstTokenMs ?? Number.POSITIVE_INFINITY;
}

/** The value that 99 of 100 do not exceed. */
function p99(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.ceil(sorted.length * 0.99) - 1] ?? Number.NaN;
}

function notDone(result: RunResult): string | undefined {
  return outcomes(result).done === result.requests.length
    ? undefined
    : `${result.name}: ${JSON.stringify(outcomes(result))}`;
}

/** Interactive requests one by one, then long offline ones under them from the start. */
function mixed(offline: number): PlannedRequest[] {
  const interactive = uniform({ ...LOAD, everyMs: 400 });
  const under = uniform({ ...LOAD, seed: 71, count: offline, everyMs: 0, maxTokens: 300 }, (request, i) => ({
    ...request,
    class: "offline",
    sampling: { ...request.sampling, seed: LOAD.count + i + 1 },
  }));
  return [...interactive, ...under];
}

const BUSY = 60;
const CALM = 20;

/** One tenant floods, another has a few requests waiting. */
export function twoTenants(): PlannedRequest[] {
  return uniform({ ...LOAD, count: BUSY + CALM, everyMs: 0 }, (request, i) => ({
    ...request,
    atMs: i < BUSY ? 0 : 1,
    tenant: i < BUSY ? "busy" : "calm",
  }));
}

export const FEW_AT_A_TIME = { ...ONE_PAIR, maxRunning: 2 };

/** Requests a second that one pair serves here: what 5 times is measured by. */
const OVERLOAD_TOPOLOGY = {
  ...ONE_PAIR,
  scheduler: { interactive: { ttftMs: 2_000, tpotMs: 60 } },
};
const SECONDS = 60;

/** Poisson-free arrivals at an even rate, then a pause, then a few at leisure. */
function arrivals(everyMs: number, seconds: number): PlannedRequest[] {
  const count = Math.floor((seconds * 1000) / everyMs);
  const size = { ...LOAD, promptTokens: 60, maxTokens: 24 };
  const load = uniform({ ...size, count, everyMs });
  const after = uniform({ ...size, seed: 72, count: 5, everyMs: 1_000 }, (request, i) => ({
    ...request,
    atMs: seconds * 1000 + 2_000 + request.atMs,
    sampling: { ...request.sampling, seed: count + i + 1 },
  }));
  return [...load, ...after];
}

/** Requests a second that met both objectives, of those that came within the load. */
function goodput(result: RunResult, seconds: number): number {
  const { ttftMs, tpotMs } = OVERLOAD_TOPOLOGY.scheduler.interactive;
  const good = result.requests.slice(0, -5).filter(({ summary }) => {
    if (!summary) return false;
    const { firstTokenMs: first, totalMs } = summary.timings;
    return first <= ttftMs && (totalMs - first) / Math.max(1, summary.outputTokens - 1) <= tpotMs;
  });
  return good.length / seconds;
}

export const CLASSES: readonly Scenario[] = [
  {
    name: "offline-within-a-step",
    about: "interactive requests over a machine full of offline work wait for one offline step, no more",
    plans: () => [
      plan("alone", { topology: ONE_PAIR, requests: mixed(0) }),
      plan("over offline work", { topology: ONE_PAIR, requests: mixed(16) }),
    ],
    judge: ([alone, over]) => {
      const wrong = notDone(over!);
      if (wrong) return wrong;
      const of = (result: RunResult) => p99(result.requests.slice(0, LOAD.count).map(firstTokenMs));
      // A prefill step of 64 tokens, on this cost model.
      const step = 64 * TOPOLOGY.cost.tokenMs * (1 + TOPOLOGY.stepNoise) + 10;
      const most = of(alone!) * 1.1 + step;
      return of(over!) <= most ? undefined : `p99 of ${of(over!).toFixed(0)} ms, not ${most.toFixed(0)}`;
    },
  },
  {
    name: "offline-gives-kv",
    about:
      "offline work has all KV: an interactive request gets what it needs within a step, and nothing is lost",
    plans: () => [
      plan("a full pool", {
        topology: { ...ONE_PAIR, totalBlocks: 40 },
        requests: uniform({ ...LOAD, count: 16, everyMs: 0, maxTokens: 200 }, (request, i) =>
          i < 12 ? { ...request, class: "offline" } : { ...request, atMs: 2_000 + 1_500 * (i - 12) },
        ),
      }),
    ],
    judge: ([result]) => {
      const late = result!.requests.slice(12).find((r) => (r.summary?.timings.queuedMs ?? 1e9) > 400);
      return notDone(result!) ?? (late && `waited ${late.summary?.timings.queuedMs} ms for blocks`);
    },
  },
  {
    name: "offline-not-starved",
    about: "interactive requests without a break: offline ones get a turn all the same",
    plans: () => [
      plan("never idle", {
        topology: { ...ONE_PAIR, scheduler: { offlinePatienceMs: 2_000 } },
        requests: uniform({ ...LOAD, count: 60, everyMs: 200 }, (request, i) =>
          i < 4 ? { ...request, class: "offline", atMs: 1_000 } : request,
        ),
      }),
    ],
    judge: ([result]) => {
      const lastInteractive = Math.max(...result!.requests.slice(4).map((r) => r.endedAt));
      const before = result!.requests.slice(0, 4).filter((r) => r.endedAt < lastInteractive).length;
      return notDone(result!) ?? (before >= 3 ? undefined : `only ${before} of 4 got a turn`);
    },
  },
  {
    name: "tenants-share",
    about: "a tenant that floods gets no more than its share while another waits",
    plans: () => [plan("60 beside 20", { topology: FEW_AT_A_TIME, requests: twoTenants() })],
    judge: ([result]) => {
      const calm = result!.requests.slice(BUSY).map((r) => r.endedAt);
      const until = Math.max(...calm);
      const busy = result!.requests.slice(0, BUSY).filter((r) => r.endedAt <= until).length;
      return notDone(result!) ?? (busy <= 1.1 * CALM + 2 ? undefined : `${busy} of the busy one's beside 20`);
    },
  },
  {
    name: "longer-than-predicted",
    about: "answers turn out longer than what KV was reserved for: some begin again, all are served",
    plans: () => [
      plan("short ones, then long ones", {
        topology: { ...ONE_PAIR, totalBlocks: 30, model: { ...TOPOLOGY.model, draftability: 0 } },
        requests: uniform(
          { ...LOAD, count: 40, everyMs: 0, promptTokens: 30, maxTokens: 300 },
          (request, i) => ({
            ...request,
            // The first end by a stop id after a few tokens, so that few blocks are reserved for the others.
            atMs: i < 20 ? i * 50 : 6_000,
            sampling: {
              ...request.sampling,
              stopIds: i < 20 ? Array.from({ length: 16 }, (_, id) => id * 4) : [],
            },
          }),
        ),
      }),
    ],
    judge: ([result]) => notDone(result!),
  },
  {
    name: "overload",
    about:
      "five times what can be served for a minute: goodput holds, refusals are quick, the end is the end",
    plans: () => [
      // Twice a second is near the most of this cost model; see the first plan's goodput.
      ...[650, 500, 400].map((everyMs) =>
        plan(`one every ${everyMs} ms`, {
          topology: OVERLOAD_TOPOLOGY,
          requests: arrivals(everyMs, SECONDS),
        }),
      ),
      plan("one every 90 ms", { topology: OVERLOAD_TOPOLOGY, requests: arrivals(90, SECONDS) }),
    ],
    judge: (results) => {
      const over = results.at(-1)!;
      const peak = Math.max(...results.slice(0, -1).map((result) => goodput(result, SECONDS)));
      const held = goodput(over, SECONDS);
      if (held < 0.9 * peak) return `goodput ${held.toFixed(2)}/s of ${peak.toFixed(2)}/s at the peak`;
      const slow = over.requests.find((r) => r.outcome === "overloaded" && r.endedAt - r.submittedAt > 50);
      if (slow) return `a refusal took ${(slow.endedAt - slow.submittedAt).toFixed(0)} ms`;
      const after = over.requests.slice(-5).map(firstTokenMs);
      return Math.max(...after) < 1_000 ? undefined : `first tokens after it took ${after.join(", ")} ms`;
    },
  },
];
