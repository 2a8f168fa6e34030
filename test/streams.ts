import { GREEDY, type Sampling } from "../dist/engine/engine.js";
import type {
  Generation,
  GenerationRequest,
  GenerationService,
  GenerationSummary,
} from "../dist/gateway/generation.js";

/** What a reader of a generation saw. */
export interface Stream {
  readonly generation: Generation;
  readonly ids: number[];
  /** Resolves when the generation has ended: to its finish, or its error's code. */
  readonly ended: Promise<string>;
}

export interface StreamOptions extends Partial<Omit<GenerationRequest, "sampling">> {
  readonly sampling?: Partial<Sampling>;
  readonly onTokens?: (stream: Stream) => void;
}

/** Opens a stream that checks, as tokens come, that none is sent twice and none left out. */
export function openStream(
  service: GenerationService,
  prompt: Uint32Array,
  options: StreamOptions = {},
): Stream {
  const ids: number[] = [];
  const { sampling, onTokens, ...rest } = options;
  let end: (how: string) => void = () => {};
  let fail: (error: Error) => void = () => {};
  const ended = new Promise<string>((resolve, reject) => {
    end = resolve;
    fail = reject;
  });
  const generation = service.generate(
    {
      prompt,
      maxTokens: 32,
      class: "interactive",
      deadlineMs: 0,
      credit: Number.POSITIVE_INFINITY,
      ...rest,
      // Every stream has its full length: what ends one early would hide what is tried here.
      sampling: { ...GREEDY, minTokens: Number.MAX_SAFE_INTEGER, ...sampling },
    },
    {
      tokens(delivered) {
        if (delivered.index !== ids.length) {
          fail(new Error(`token ${delivered.index} came where ${ids.length} was due`));
        }
        ids.push(...delivered.ids);
        onTokens?.(stream);
      },
      done: (summary) => end(summary.finish),
      failed: (error) => end(error.code),
    },
  );
  const stream: Stream = { generation, ids, ended };
  return stream;
}

/** What the service says of one request at its end; of few tokens, unless told otherwise, and none too few. */
export function summaryOf(
  service: GenerationService,
  prompt: Uint32Array,
  more: Partial<GenerationRequest> = {},
): Promise<GenerationSummary> {
  return new Promise((resolve, reject) => {
    service.generate(
      {
        prompt,
        maxTokens: 2,
        sampling: { ...GREEDY, minTokens: Number.MAX_SAFE_INTEGER },
        class: "interactive",
        deadlineMs: 0,
        credit: Number.POSITIVE_INFINITY,
        ...more,
      },
      { tokens: () => {}, done: resolve, failed: reject },
    );
  });
}

/** Resolves once `condition` holds; looked at after every turn of the event loop that timers get. */
export async function until(condition: () => boolean, withinMs = 20_000): Promise<void> {
  const deadline = performance.now() + withinMs;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`not within ${withinMs} ms: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** A prompt of its own for each `seed`. */
export function promptOf(seed: number, length: number): Uint32Array {
  return Uint32Array.from({ length }, (_, i) => 1000 + ((i * 37 + seed * 101) % 4000));
}
