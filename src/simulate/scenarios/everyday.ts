import type { Fault } from "../plan.js";
import { actorNames } from "../random-plan.js";
import type { RequestResult, RunResult } from "../run-result.js";
import { outcomes, plan, type Scenario, TOPOLOGY, uniform } from "../scenario.js";

/** Situations of our own: every role dies, queues overflow, readers dawdle. */

const LOAD = { seed: 30, count: 30, everyMs: 20, promptTokens: 90, maxTokens: 24 };

/** Short prompts and many rows, as fast as one pair of two can just serve them. */
const STANDSTILL = { seed: 30, count: 90, everyMs: 110, promptTokens: 8, maxTokens: 60 };
const STANDSTILL_FROM_MS = 500;
const STANDSTILL_MS = 10_000;
/** More than the router needs to find out. */
const NOTICED_MS = 1_000;

/** Ways to stand still: a step that does not end, while the lane's mailbox is served; and a thread without processor. */
const STANDSTILLS: readonly (readonly [name: string, fault: Fault])[] = [
  ...["decode.0", "prefill.0"].map((actor): [string, Fault] => [
    `a step of ${actor} does not end`,
    { kind: "slow", actor, atMs: STANDSTILL_FROM_MS, forMs: STANDSTILL_MS, factor: 20_000 },
  ]),
  [
    "decode.0 gets no processor",
    {
      kind: "pause",
      actor: "decode.0",
      when: { kind: "time", atMs: STANDSTILL_FROM_MS },
      forMs: STANDSTILL_MS,
    },
  ],
];

/** A load that either pair serves within the objective, and how the thread rests. */
const RESTS = {
  ...{ seed: 30, count: 120, everyMs: 200, promptTokens: 8, maxTokens: 40 },
  ...{ tpotMs: 15, fromMs: 200, periodMs: 120, restMs: 100 },
};

/** When a request that decodes is cancelled, after its submission. */
const CANCEL_MS = 1_000;

function allDone(results: readonly RunResult[]): string | undefined {
  const wrong = results.find((result) => outcomes(result).done !== result.requests.length);
  return wrong && `${wrong.name}: ${JSON.stringify(outcomes(wrong))}`;
}

function firstTokens(result: RunResult, wanted: (number: number) => boolean): number[] {
  return result.requests.flatMap((r, i) => (wanted(i) && r.summary ? [r.summary.timings.firstTokenMs] : []));
}

/** Milliseconds an output token after the first. */
function tokenMs({ summary, submittedAt, endedAt, received }: RequestResult): number | undefined {
  return summary && (endedAt - submittedAt - summary.timings.firstTokenMs) / (received - 1);
}

export const EVERYDAY: readonly Scenario[] = [
  {
    name: "every-role-dies",
    about: "each actor in turn is killed while requests run; all of them complete",
    plans: () =>
      actorNames(TOPOLOGY).map((actor) =>
        plan(`${actor} dies`, {
          requests: uniform(LOAD),
          faults: [100, 250, 260].map(
            (atMs): Fault => ({ kind: "kill", actor, when: { kind: "time", atMs } }),
          ),
        }),
      ),
    judge: allDone,
  },
  {
    name: "all-lanes-die",
    about: "all lanes die at once; every request begins again and completes",
    plans: () => [
      plan("at 200 ms", {
        requests: uniform(LOAD),
        faults: actorNames(TOPOLOGY)
          .filter((actor) => actor.includes("."))
          .map((actor): Fault => ({ kind: "kill", actor, when: { kind: "time", atMs: 200 } })),
      }),
    ],
    judge: allDone,
  },
  {
    name: "flood",
    about: "more requests at once than may wait: the rest is refused at once, nobody else notices",
    plans: () => [
      plan("500 at once", {
        topology: { ...TOPOLOGY, maxWaiting: 64, maxRunning: 16 },
        requests: uniform({ ...LOAD, count: 500, everyMs: 0, maxTokens: 4 }),
      }),
    ],
    judge: ([result]) => {
      const { done = 0, overloaded = 0 } = outcomes(result!);
      const late = result!.requests.find(
        (r) => r.outcome === "overloaded" && r.endedAt - r.submittedAt > 500,
      );
      if (late) return "a refusal came late";
      return done >= 64 && done + overloaded === 500 ? undefined : JSON.stringify(outcomes(result!));
    },
  },
  {
    name: "full-mailboxes",
    about: "every mailbox is full for a while; messages wait or are sent again, none is lost",
    plans: () =>
      ["gateway", ...actorNames(TOPOLOGY)].map((actor) =>
        plan(`to ${actor}`, {
          requests: uniform(LOAD),
          faults: [{ kind: "full", actor, when: { kind: "time", atMs: 100 }, forMs: 300 }],
        }),
      ),
    judge: (results) => {
      const lost = results.find((r) =>
        r.requests.some((q) => q.outcome !== "done" && q.outcome !== "overloaded"),
      );
      return lost && `${lost.name}: ${JSON.stringify(outcomes(lost))}`;
    },
  },
  {
    name: "cancel-meets-full-mailbox",
    about: "cancels find the scheduler's mailbox full: they go out as soon as there is room",
    plans: () => [
      plan("full at every fourth step", {
        // Short steps, so that "within one step" is short too, and as many as tokens: each fourth fills the mailbox.
        topology: { ...TOPOLOGY, maxDepth: 0, prefill: { maxRows: 1, maxBatchTokens: 17 } },
        requests: uniform({ ...LOAD, everyMs: 150, promptTokens: 16, maxTokens: 200 }, (request, i) =>
          i % 2 ? request : { ...request, cancel: { kind: "tokens", count: 8 } },
        ),
        faults: Array.from({ length: 100 }, (_, i): Fault => {
          return {
            kind: "full",
            actor: "scheduler",
            when: { kind: "message", type: "tokens", nth: 4 * i + 1 },
            forMs: 10,
          };
        }),
      }),
    ],
    judge: ([result]) => {
      // A new request that meets the full mailbox is refused; but only while it is full: a quarter of the time.
      const { done = 0, cancelled = 0, overloaded = 0 } = outcomes(result!);
      return done + cancelled + overloaded === 30 && overloaded <= 10
        ? undefined
        : `${overloaded} were refused`;
    },
  },
  {
    name: "cancel-passes-a-busy-prefill",
    about: "a cancel reaches a decoding request while the pair's prefill lane computes for seconds",
    plans: () => [
      plan("prefill steps of seconds", {
        topology: { ...TOPOLOGY, pairs: 1 },
        requests: uniform({ ...LOAD, count: 4, everyMs: 100, promptTokens: 256, maxTokens: 250 }, (r, i) =>
          i > 0 ? { ...r, atMs: r.atMs + 400 } : { ...r, cancel: { kind: "time", atMs: CANCEL_MS } },
        ),
        faults: [{ kind: "slow", actor: "prefill.0", atMs: 400, forMs: 60_000, factor: 40 }],
      }),
    ],
    judge: ([result]) => {
      const [first] = result!.requests;
      const tookMs = first!.endedAt - first!.submittedAt - CANCEL_MS;
      return first!.outcome === "cancelled" && tookMs < 100
        ? undefined
        : `${first!.outcome} ${tookMs.toFixed(0)} ms after the cancel`;
    },
  },
  {
    name: "doors-asleep",
    about:
      "the doors' thread gets no processor for seconds: what ended meanwhile is delivered, not computed again",
    plans: () =>
      [100, 300, 500].map((atMs) =>
        plan(`from ${atMs} ms`, {
          requests: uniform({ ...LOAD, count: 60, everyMs: 5 }),
          faults: [{ kind: "pause", actor: "gateway", when: { kind: "time", atMs }, forMs: 4_000 }],
        }),
      ),
    judge: (results) => {
      const again = results.find((result) => result.resumptions > 0);
      return allDone(results) ?? (again && `${again.name}: ${again.resumptions} requests began again`);
    },
  },
  {
    name: "small-mailboxes",
    about: "mailboxes that hold a few messages: every edge is full again and again",
    plans: () => [
      plan("4 KiB an edge", {
        topology: { ...TOPOLOGY, ringBytes: 4096 },
        requests: uniform({ ...LOAD, everyMs: 2 }),
      }),
    ],
    judge: ([result]) => ((outcomes(result!).done ?? 0) > 0 ? undefined : "nothing was served"),
  },
  {
    name: "slow-lane",
    about: "one pair is 20 times slower: the router sends most requests to the other",
    plans: () => [
      plan("pair 0 is slow", {
        requests: uniform({ ...LOAD, everyMs: 600, count: 40 }),
        faults: ["prefill.0", "decode.0"].map(
          (actor): Fault => ({ kind: "slow", actor, atMs: 0, forMs: 60_000, factor: 20 }),
        ),
      }),
    ],
    judge: ([result]) => {
      const slow = firstTokens(result!, (i) => i >= 10).filter((ms) => ms > 2_000).length;
      return slow <= 5 ? undefined : `${slow} of 30 requests waited for the slow pair`;
    },
  },
  {
    name: "lane-stands-still",
    about: "a lane lives and computes nothing for ten seconds: new requests go to the other pair meanwhile",
    plans: () =>
      STANDSTILLS.map(([name, fault]) => plan(name, { requests: uniform(STANDSTILL), faults: [fault] })),
    judge: (results) => {
      for (const result of results) {
        const later = result.requests.filter((r) => r.submittedAt >= STANDSTILL_FROM_MS + NOTICED_MS);
        const stuck = later.filter((r) => r.endedAt - r.submittedAt > STANDSTILL_MS / 2).length;
        if (stuck > 0) return `${result.name}: ${stuck} new requests went to the lane that stands still`;
      }
      return allDone(results);
    },
  },
  {
    name: "thread-rests",
    about:
      "a decode lane's steps are short but its thread rests between them: fewer requests go there than miss their objective",
    plans: () => [
      plan("decode.0 gets a sixth of a processor", {
        topology: { ...TOPOLOGY, scheduler: { interactive: { ttftMs: 0, tpotMs: RESTS.tpotMs } } },
        requests: uniform(RESTS),
        faults: Array.from(
          { length: (RESTS.count * RESTS.everyMs) / RESTS.periodMs },
          (_, i): Fault => ({
            kind: "pause",
            actor: "decode.0",
            when: { kind: "time", atMs: RESTS.fromMs + i * RESTS.periodMs },
            forMs: RESTS.restMs,
          }),
        ),
      }),
    ],
    judge: ([result]) => {
      // The first show what the pair is like.
      const later = result!.requests.slice(RESTS.count / 6);
      const missed = later.filter((r) => (tokenMs(r) ?? 0) > RESTS.tpotMs).length;
      return allDone([result!]) ?? (missed <= later.length * 0.15 ? undefined : `${missed} were slow`);
    },
  },
  {
    name: "slow-readers",
    about: "readers that take a token now and then hold back nobody but themselves",
    plans: () => [
      plan("every second reader is slow", {
        requests: uniform(LOAD, (request, i) =>
          i % 2 ? { ...request, reader: { credit: 1, grant: 1, everyMs: 200 } } : request,
        ),
      }),
    ],
    judge: ([result]) => {
      const wrong = allDone([result!]);
      if (wrong) return wrong;
      const quick = result!.requests.filter((_, i) => i % 2 === 0).map((r) => r.endedAt - r.submittedAt);
      const slowest = Math.max(...quick);
      return slowest < 5_000 ? undefined : `an eager reader took ${slowest.toFixed(0)} ms`;
    },
  },
  {
    name: "deadlines",
    about: "deadlines that can and can't be met: kept, or failed in time",
    plans: () => [
      plan("mixed deadlines", {
        requests: uniform({ ...LOAD, everyMs: 10 }, (request, i) => ({
          ...request,
          deadlineMs: [50, 500, 60_000][i % 3] as number,
        })),
      }),
    ],
    judge: ([result]) => {
      const generous = result!.requests.filter((_, i) => i % 3 === 2);
      return generous.every((r) => r.outcome === "done") ? undefined : "a generous deadline was missed";
    },
  },
  {
    name: "offline-gives-way",
    about: "offline work fills the machine; interactive requests don't queue behind it",
    plans: () => [
      plan("20 offline, then 10 interactive", {
        topology: { ...TOPOLOGY, pairs: 1, maxRunning: 8 },
        requests: uniform({ ...LOAD, count: 30, everyMs: 0 }, (request, i) =>
          i < 20 ? { ...request, class: "offline" } : { ...request, atMs: 300 + i },
        ),
      }),
    ],
    judge: ([result]) => {
      const lastInteractive = Math.max(...result!.requests.slice(20).map((r) => r.endedAt));
      const after = result!.requests.slice(0, 20).filter((r) => r.endedAt > lastInteractive).length;
      return after >= 2 ? undefined : "interactive requests came last";
    },
  },
  {
    name: "scarce-kv",
    about: "a pool that holds two requests: all are served, in turn",
    plans: () => [
      plan("10 blocks", {
        topology: { ...TOPOLOGY, totalBlocks: 10 },
        requests: uniform({ ...LOAD, count: 20, everyMs: 5 }),
      }),
    ],
    judge: allDone,
  },
  {
    name: "readers-that-pause",
    about:
      "readers that take nothing for 20 s hold the whole pool: others are served meanwhile, and then they",
    plans: () => [
      plan("30 blocks", {
        topology: { ...TOPOLOGY, totalBlocks: 30 },
        requests: uniform({ ...LOAD, count: 16, everyMs: 50 }, (request, i) =>
          i < 8
            ? { ...request, maxTokens: 200, reader: { credit: 2, grant: 200, everyMs: 20_000 } }
            : { ...request, atMs: 3_000 + i },
        ),
      }),
    ],
    judge: ([result]) => {
      const last = Math.max(...result!.requests.slice(8).map((r) => r.endedAt));
      return last < 10_000 ? allDone([result!]) : `others waited until ${last} ms`;
    },
  },
  {
    name: "many-pairs",
    about: "32 pairs, 400 requests, a lane death every 100 ms",
    plans: () => {
      const topology = { ...TOPOLOGY, pairs: 32, totalBlocks: 1024 };
      const lanes = actorNames(topology).filter((actor) => actor.includes("."));
      const faults = Array.from(
        { length: 20 },
        (_, i): Fault => ({
          kind: "kill",
          actor: lanes[(i * 13) % lanes.length] as string,
          when: { kind: "time", atMs: 50 + 100 * i },
        }),
      );
      return [plan("32 pairs", { topology, faults, requests: uniform({ ...LOAD, count: 400, everyMs: 5 }) })];
    },
    judge: allDone,
  },
];
