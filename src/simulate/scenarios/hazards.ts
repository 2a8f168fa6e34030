import { decodeLane, type Fault, type PlannedRequest, prefillLane } from "../plan.js";
import type { RunResult } from "../run-result.js";
import { outcomes, plan, type Scenario, TOPOLOGY, uniform } from "../scenario.js";

/** The faults that took down disaggregated systems in production: one scenario a row of the design's table. */

const STORM_MS = 1_000;
/** Requests in the lanes at once, where order is looked at. */
const RUNNING = 4;

/** A small pool: a block that is given back is taken by the next request at once. */
const TIGHT = { ...TOPOLOGY, totalBlocks: 24 };

function expectAll(outcome: string): (results: readonly RunResult[]) => string | undefined {
  return (results) => {
    const wrong = results.find((result) => outcomes(result)[outcome] !== result.requests.length);
    return wrong && `${wrong.name}: expected all ${outcome}, got ${JSON.stringify(outcomes(wrong))}`;
  };
}

function stormJudge([calm, storm]: readonly RunResult[]): string | undefined {
  if (!calm || !storm) return "a run is missing";
  // The requests of the calm come after the storm's in both plans.
  const after = (result: RunResult) => result.requests.slice(-20).map((r) => r.endedAt - r.submittedAt);
  const slowest = Math.max(...after(storm)) - Math.max(...after(calm));
  return slowest > 2_000
    ? `requests after the storm take ${slowest.toFixed(0)} ms longer than without it`
    : undefined;
}

function storm(abort: boolean): PlannedRequest[] {
  const size = { seed: 4, everyMs: STORM_MS / 200, promptTokens: 200, maxTokens: 16 };
  const stormy = uniform({ ...size, count: 200 }, (request, number) => ({
    ...request,
    ...(abort
      ? { cancel: { kind: "time", atMs: 1 + (number % 50) } }
      : { atMs: request.atMs, maxTokens: 1, prompt: [1] }),
  }));
  const calm = uniform({ ...size, seed: 5, everyMs: 100, count: 20 }, (request, number) => ({
    ...request,
    atMs: STORM_MS + 100 + request.atMs,
    sampling: { ...request.sampling, seed: 200 + number + 1 },
  }));
  return [...stormy, ...calm];
}

/** Every fifth request is cancelled as the given message about it has been delivered. */
function cancelledAt(type: string, nth = 1): PlannedRequest[] {
  const size = { seed: 6, count: 40, everyMs: 25, promptTokens: 120, maxTokens: 20 };
  return uniform(size, (request, number) =>
    number % 5 === 2 ? { ...request, cancel: { kind: "message", type, nth } } : request,
  );
}

const STAGES = ["submit", "admitted", "route", "routed", "handoff", "tokens"];

function neighboursUnharmed(results: readonly RunResult[]): string | undefined {
  for (const result of results) {
    const harmed = result.requests.findIndex((r, number) => number % 5 !== 2 && r.outcome !== "done");
    if (harmed >= 0)
      return `${result.name}: request ${harmed} ended with ${result.requests[harmed]?.outcome}`;
  }
  return undefined;
}

/** Equal requests at one time: each ends before those that can't have been admitted beside it. */
function inOrder(results: readonly RunResult[]): string | undefined {
  for (const { name, requests } of results) {
    const late = requests.findIndex(
      ({ endedAt }, i) => endedAt > (requests[i + RUNNING]?.endedAt ?? Number.POSITIVE_INFINITY),
    );
    if (late >= 0) return `${name}: request ${late} ended after request ${late + RUNNING}, which came later`;
  }
  return undefined;
}

export const HAZARDS: readonly Scenario[] = [
  {
    name: "abort-storm",
    about: "200 requests cancelled within a second; later ones must not notice",
    hazard: "abort storm: decode is never told and holds its slots",
    plans: () => [plan("calm", { requests: storm(false) }), plan("storm", { requests: storm(true) })],
    judge: stormJudge,
  },
  {
    name: "freed-in-flight",
    about: "cancels while a step writes KV, in a pool where every freed block is reused at once",
    hazard: "blocks freed on cancel while a copy into them is in flight",
    elsewhere: "copies between devices: tests of the GPU lanes, where there is a GPU",
    plans: () =>
      [3, 11, 19, 27, 35, 43].map((atMs) =>
        plan(`cancel after ${atMs} ms`, {
          topology: TIGHT,
          requests: uniform(
            { seed: atMs, count: 40, everyMs: 15, promptTokens: 150, maxTokens: 12 },
            (request, i) => (i % 2 ? { ...request, cancel: { kind: "time", atMs } } : request),
          ),
        }),
      ),
  },
  {
    name: "incomplete-kv",
    about: "prefill lanes die between chunks and at the hand-off; nobody decodes on half a prompt",
    hazard: "decode runs on the incomplete KV of an aborted prefill",
    plans: () =>
      [1, 2, 3, 5, 8].map((nth) =>
        plan(`prefill dies at hand-off ${nth}`, {
          requests: uniform({ seed: nth, count: 12, everyMs: 30, promptTokens: 400, maxTokens: 24 }),
          faults: [
            { kind: "kill", actor: prefillLane(0), when: { kind: "message", type: "handoff", nth } },
            { kind: "kill", actor: prefillLane(1), when: { kind: "time", atMs: 40 * nth } },
          ],
        }),
      ),
    judge: expectAll("done"),
  },
  {
    name: "stranded-hand-over",
    about: "prefill lanes die while a full mailbox keeps their hand-over from being told; its KV comes back",
    plans: () =>
      [250, 300, 400, 500].map((atMs) =>
        plan(`prefill dies after ${atMs} ms`, {
          requests: uniform({ seed: atMs, count: 12, everyMs: 10, promptTokens: 60, maxTokens: 16 }),
          faults: [0, 1].flatMap((pair): Fault[] => [
            { kind: "full", actor: decodeLane(pair), when: { kind: "time", atMs: 5 }, forMs: 900 },
            { kind: "kill", actor: prefillLane(pair), when: { kind: "time", atMs } },
          ]),
        }),
      ),
    judge: expectAll("done"),
  },
  {
    name: "queue-outlives-scheduler",
    about: "the scheduler dies with a long queue: those who waited keep their order",
    plans: () =>
      [1, 5, 20].map((nth) =>
        plan(`scheduler dies at route ${nth}`, {
          topology: { ...TOPOLOGY, maxRunning: RUNNING },
          requests: uniform({ seed: nth, count: 60, everyMs: 0, promptTokens: 30, maxTokens: 12 }),
          faults: [{ kind: "kill", actor: "scheduler", when: { kind: "message", type: "route", nth } }],
        }),
      ),
    judge: inOrder,
  },
  {
    name: "cancel-in-a-dead-mailbox",
    about:
      "requests come and are taken back while the scheduler is down, and the router dies with their cancels",
    plans: () =>
      [1, 2, 3].map((nth) =>
        plan(`router dies at cancel ${nth}`, {
          requests: uniform(
            { seed: nth, count: 8, everyMs: 5, promptTokens: 40, maxTokens: 200 },
            (request) => ({
              ...request,
              atMs: 10 + request.atMs,
              cancel: { kind: "time", atMs: 1 },
              reader: { credit: 1, grant: 0, everyMs: 0 },
            }),
          ),
          faults: [
            { kind: "kill", actor: "scheduler", when: { kind: "time", atMs: 9 } },
            { kind: "kill", actor: "router", when: { kind: "message", type: "cancel", nth: 8 + nth } },
          ],
        }),
      ),
    judge: expectAll("cancelled"),
  },
  {
    name: "answer-meets-full-mailbox",
    about:
      "a lane that is idle but for an audit finds the scheduler's mailbox full: it tries again by itself",
    plans: () => {
      const size = { seed: 8, count: 2, everyMs: 20, promptTokens: 10, maxTokens: 300 };
      // The first is lost with the decode lane as it is taken back; the second has the prefill lane answer late.
      const requests = uniform(size, (request, number) =>
        number === 0
          ? { ...request, cancel: { kind: "message", type: "handoff", nth: 1 } }
          : { ...request, prompt: Array.from({ length: 200 }, (_, i) => i % 60) },
      );
      return [300, 600, 900].map((forMs) =>
        plan(`full for ${forMs} ms`, {
          topology: { ...TOPOLOGY, pairs: 1 },
          requests,
          faults: [
            { kind: "kill", actor: decodeLane(0), when: { kind: "message", type: "handoff", nth: 1 } },
            { kind: "full", actor: "scheduler", when: { kind: "time", atMs: 400 }, forMs },
          ],
        }),
      );
    },
  },
  {
    name: "cancelled-transfer",
    about: "cancels at the hand-off end those requests alone",
    hazard: "one cancelled transfer stops the whole stage",
    plans: () => [plan("cancel at hand-off", { requests: cancelledAt("handoff") })],
    judge: neighboursUnharmed,
  },
  {
    name: "cancel-between-stages",
    about: "cancels at every stage, the window between prefill and decode included; no block is stranded",
    hazard: "cancel in the window after prefill and before decode strands blocks",
    plans: () => STAGES.map((type) => plan(`cancel at ${type}`, { requests: cancelledAt(type) })),
    judge: neighboursUnharmed,
  },
  {
    name: "last-ten",
    about: "1,000 requests in a closed loop, with lane deaths: the last ones end too",
    hazard: "the run hangs at 990 of 1,000",
    plans: () => {
      const requests = uniform(
        { seed: 9, count: 1_000, everyMs: 0, promptTokens: 24, maxTokens: 4 },
        (request, i) => (i < 64 ? request : { ...request, after: i - 64 }),
      );
      const faults = [50, 150, 400].map(
        (nth): Fault => ({
          kind: "kill",
          actor: `decode.${nth % 2}`,
          when: { kind: "message", type: "handoff", nth },
        }),
      );
      return [plan("without faults", { requests }), plan("with lane deaths", { requests, faults })];
    },
    judge: expectAll("done"),
  },
  {
    name: "device-error",
    about: "steps that fail on the device fail at most the requests in them, with a code",
    hazard: "a crash in native code takes the host process down",
    elsewhere: "the real engine's errors: fuzzing of model files, tests of the native binding",
    plans: () => [
      plan("failing steps", {
        requests: uniform({ seed: 12, count: 30, everyMs: 20, promptTokens: 60, maxTokens: 20 }),
        faults: [3, 9, 27].flatMap((nth): Fault[] => [
          { kind: "step-fails", actor: "prefill.0", nth },
          { kind: "step-fails", actor: "decode.1", nth },
        ]),
      }),
    ],
    judge: ([result]) =>
      (outcomes(result!).done ?? 0) >= 24 ? undefined : "a failed step took others with it",
  },
  {
    name: "too-long",
    about: "prompts that don't fit the context are refused, never cut; the rest is served",
    hazard: "a prompt is silently cut",
    elsewhere: "the message with both numbers at each door: gateway tests",
    plans: () => [
      plan("every third too long", {
        requests: uniform(
          { seed: 13, count: 12, everyMs: 10, promptTokens: 40, maxTokens: 8 },
          (request, i) =>
            i % 3 === 1 ? { ...request, prompt: Array.from({ length: 600 }, (_, at) => at % 64) } : request,
        ),
      }),
    ],
    judge: ([result]) => {
      const codes = result!.requests.map((r) => r.outcome);
      const right = codes.every((code, i) => code === (i % 3 === 1 ? "prompt_too_long" : "done"));
      return right ? undefined : `outcomes were ${codes.join(", ")}`;
    },
  },
  {
    name: "death-in-step",
    about: "lanes die again and again while their steps run",
    hazard: "ending a worker while its addon works aborts the process",
    elsewhere: "threads ended in native code: the test that kills real lanes in mid-step",
    plans: () => [
      plan("a death every 150 ms", {
        requests: uniform({ seed: 14, count: 30, everyMs: 30, promptTokens: 80, maxTokens: 16 }),
        faults: ["prefill.0", "decode.0", "prefill.1", "decode.1"].flatMap((actor, lane) =>
          [0, 1, 2].map(
            (round): Fault => ({
              kind: "kill",
              actor,
              when: { kind: "time", atMs: 20 + 150 * (round * 4 + lane) },
            }),
          ),
        ),
      }),
    ],
    judge: expectAll("done"),
  },
  {
    name: "interrupted-answer",
    about: "a cancelled request's KV serves the same conversation when it comes back",
    hazard: "an interrupted answer throws its KV away",
    plans: () => [
      plan("the same prompt again", {
        requests: uniform(
          { seed: 15, count: 2, everyMs: 2_000, promptTokens: 200, maxTokens: 40 },
          (request, i) =>
            i === 0
              ? { ...request, cancel: { kind: "tokens", count: 5 } }
              : {
                  ...request,
                  prompt: uniform({ seed: 15, count: 1, everyMs: 0, promptTokens: 200, maxTokens: 1 })[0]!
                    .prompt,
                },
        ),
      }),
    ],
    judge: ([result]) => {
      const cached = result!.requests[1]?.summary?.cachedTokens ?? 0;
      return cached >= 192 ? undefined : `only ${cached} of 200 prompt tokens came from the cache`;
    },
  },
  {
    name: "useless-drafts",
    about: "drafts that never hold under a heavy load: the tuner goes to depth 0 and little is lost",
    hazard: "speculation slows a loaded server",
    elsewhere: "measured on the real engine: the benchmarks",
    plans: () =>
      [8, 0].map((maxDepth) =>
        plan(`depth up to ${maxDepth}`, {
          topology: { ...TOPOLOGY, maxDepth, model: { ...TOPOLOGY.model, vocabulary: 8, draftability: 0 } },
          requests: uniform(
            { seed: 16, count: 48, everyMs: 1, promptTokens: 64, maxTokens: 64 },
            (request) => ({
              ...request,
              prompt: request.prompt.map((id) => id % 8),
            }),
          ),
        }),
      ),
    judge: ([speculating, plain]) => {
      const ratio = speculating!.virtualMs / plain!.virtualMs;
      return ratio < 1.1 ? undefined : `speculation made the run ${ratio.toFixed(2)} times as long`;
    },
  },
];
