import { GREEDY } from "#streamserve/engine/engine.js";
import type { GenerationService } from "#streamserve/gateway/generation.js";

/** What a run of many streams gave. */
export interface Run {
  /** Output tokens a second, from the moment that all streams had their first token. */
  readonly tokensPerSecond: number;
  /** Answers, by the number of their prompt; those that the end of the run cut short too. */
  readonly answers: ReadonlyMap<number, readonly number[]>;
}

export interface RunOptions {
  readonly prompts: readonly Uint32Array[];
  readonly stopIds: readonly number[];
  /** Streams under way at any time: one that ends is followed by the next prompt. */
  readonly streams: number;
  /** Output tokens of an answer, at most. */
  readonly maxTokens: number;
  /** Output tokens after which the run is over. */
  readonly tokens: number;
  /** Recent outputs are kept by tenant: a name never used before means that no draft comes from an earlier run. */
  readonly tenant: string;
}

/** Keeps `streams` greedy answers under way until so many tokens have come, then cancels what is left. */
export function runStreams(service: GenerationService, options: RunOptions): Promise<Run> {
  const { prompts, streams, maxTokens, tokens, tenant, stopIds } = options;
  const sampling = { ...GREEDY, stopIds };
  return new Promise((resolve, reject) => {
    const answers = new Map<number, readonly number[]>();
    const open = new Map<number, () => void>();
    let next = 0;
    let begun = 0;
    let since = 0;
    let counted = 0;
    let ending: number | undefined;
    let failure: Error | undefined;
    const settle = () => {
      if (open.size > 0) return;
      if (failure) reject(failure);
      else resolve({ tokensPerSecond: (counted * 1000) / (ending! - since), answers });
    };
    const start = () => {
      const number = next++;
      const index = number % prompts.length;
      const ids: number[] = [];
      const first = number < streams;
      const generation = service.generate(
        {
          prompt: prompts[index]!,
          maxTokens,
          sampling,
          class: "interactive",
          deadlineMs: 0,
          credit: Number.POSITIVE_INFINITY,
          tenant,
        },
        {
          tokens: (delivered) => {
            const now = performance.now();
            if (ids.length === 0 && first && ++begun === streams) since = now;
            ids.push(...delivered.ids);
            if (since === 0 || ending !== undefined) return;
            counted += delivered.ids.length;
            if (counted < tokens) return;
            ending = now;
            for (const cancel of [...open.values()]) cancel();
          },
          done: () => {
            answers.set(index, ids);
            open.delete(number);
            if (ending === undefined) start();
            settle();
          },
          failed: (error) => {
            answers.set(index, ids);
            open.delete(number);
            if (error.code !== "cancelled") {
              failure ??= error;
              ending ??= performance.now();
              for (const cancel of [...open.values()]) cancel();
            }
            settle();
          },
        },
      );
      open.set(number, () => generation.cancel());
    };
    for (let stream = 0; stream < streams; stream++) start();
  });
}

/** Computes every prompt once, so that later runs find its KV. */
export async function prefillAll(
  service: GenerationService,
  prompts: readonly Uint32Array[],
  stopIds: readonly number[],
): Promise<void> {
  await runStreams(service, {
    prompts,
    stopIds,
    streams: 1,
    maxTokens: 2,
    tokens: 2 * prompts.length - 2,
    tenant: "prefill",
  });
}
