import { setTimeout as delay } from "node:timers/promises";
import { GREEDY } from "#streamserve/engine/engine.js";
import type { GenerationService, GenerationSummary } from "#streamserve/gateway/generation.js";
import { outcomeOf, Silence } from "#streamserve/simulate/serving/outcome.js";
import type { RequestOutcome, ServingRequest, Workload } from "#streamserve/simulate/serving/serving.js";

/** What the planner simulates, served by the real actors and engine: the same prompts at the same times. */

/** A request's outcome, with times of the gateway actor, as in the simulator; and what was answered. */
export interface Served {
  readonly outcome: RequestOutcome;
  readonly answer: readonly number[];
}

/** In the order of the requests. */
export async function serveWorkload(
  service: GenerationService,
  { requests }: Workload,
  stopIds: readonly number[],
): Promise<Served[]> {
  const beganMs = performance.now();
  const answers: Promise<Served>[] = [];
  for (const request of requests) {
    const { prompt } = request.text();
    const waitMs = beganMs + request.atMs - performance.now();
    if (waitMs > 0) await delay(waitMs);
    answers.push(serve(service, request, prompt, stopIds));
  }
  return Promise.all(answers);
}

function serve(
  service: GenerationService,
  { atMs, maxTokens, outputTokens, tenant, set }: ServingRequest,
  prompt: Uint32Array,
  stopIds: readonly number[],
): Promise<Served> {
  const answer: number[] = [];
  return new Promise((resolve) => {
    const silence = new Silence();
    const end = (ending: string, summary?: GenerationSummary): void => {
      const outcome = outcomeOf({ atMs, set }, ending, summary, silence.longestMs, Number.NaN);
      resolve({ answer, outcome: { ...outcome, promptTokens: prompt.length } });
    };
    service.generate(
      {
        prompt,
        maxTokens: maxTokens ?? outputTokens,
        sampling: { ...GREEDY, stopIds },
        class: "interactive",
        ...(tenant === undefined ? {} : { tenant }),
        deadlineMs: 0,
        credit: Number.POSITIVE_INFINITY,
      },
      {
        tokens: ({ ids }) => {
          for (const id of ids) answer.push(id);
          silence.heard(performance.now());
        },
        done: (summary) => end("done", summary),
        failed: ({ code }) => end(code),
      },
    );
  });
}
