import { GREEDY } from "#streamserve/engine/engine.js";
import type { GenerationService } from "#streamserve/gateway/generation.js";

/** Greedy answers to all prompts, stop id included, `streams` under way at any time. Rejects with the first failure. */
export function answerAll(
  service: GenerationService,
  prompts: readonly Uint32Array[],
  stopIds: readonly number[],
  maxTokens: number,
  streams: number,
): Promise<readonly Uint32Array[]> {
  return new Promise((resolve, reject) => {
    const answers: Uint32Array[] = [];
    let next = 0;
    let left = prompts.length;
    const start = () => {
      const index = next++;
      if (index >= prompts.length) return;
      const ids: number[] = [];
      service.generate(
        {
          prompt: prompts[index]!,
          maxTokens,
          sampling: { ...GREEDY, stopIds },
          class: "interactive",
          deadlineMs: 0,
          credit: Number.POSITIVE_INFINITY,
        },
        {
          tokens: (delivered) => ids.push(...delivered.ids),
          done: () => {
            answers[index] = Uint32Array.from(ids);
            if (--left === 0) resolve(answers);
            start();
          },
          failed: reject,
        },
      );
    };
    for (let stream = 0; stream < streams; stream++) start();
  });
}
