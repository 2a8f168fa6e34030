import { GREEDY, type Sampling } from "#streamserve/engine/engine.js";
import type { GenerationService, GenerationSummary, RequestClass } from "#streamserve/gateway/generation.js";

/** One generation through the actors (no HTTP), with the times of its tokens. */

export interface StreamRequest {
  readonly prompt: Uint32Array;
  readonly maxTokens: number;
  readonly class?: RequestClass;
  readonly tenant?: string;
  readonly sampling?: Partial<Sampling>;
  /** Told of tokens as they come. */
  readonly onTokens?: (count: number) => void;
}

export interface StreamRecord {
  readonly submittedMs: number;
  readonly endedMs: number;
  /** When each delivery came, and how many tokens it had. */
  readonly deliveries: readonly { readonly atMs: number; readonly tokens: number }[];
  readonly ids: readonly number[];
  /** `done`, or the error's code. */
  readonly outcome: string;
  /** The gateway's own account of one that is done. */
  readonly summary: GenerationSummary | undefined;
}

/** Stop ids never end it: every answer has the length asked for. */
export const ENDLESS: Sampling = { ...GREEDY, minTokens: 2 ** 32 - 1 };

export interface OpenStream {
  readonly ended: Promise<StreamRecord>;
  cancel(): void;
}

export function openStream(service: GenerationService, request: StreamRequest): OpenStream {
  const submittedMs = performance.now();
  const deliveries: { atMs: number; tokens: number }[] = [];
  const ids: number[] = [];
  let cancel = (): void => {};
  const ended = new Promise<StreamRecord>((resolve) => {
    const end = (outcome: string, summary?: GenerationSummary): void =>
      resolve({ submittedMs, endedMs: performance.now(), deliveries, ids, outcome, summary });
    const generation = service.generate(
      {
        prompt: request.prompt,
        maxTokens: request.maxTokens,
        sampling: { ...ENDLESS, ...request.sampling },
        class: request.class ?? "interactive",
        ...(request.tenant === undefined ? {} : { tenant: request.tenant }),
        deadlineMs: 0,
        credit: Number.POSITIVE_INFINITY,
      },
      {
        tokens(delivered) {
          deliveries.push({ atMs: performance.now(), tokens: delivered.ids.length });
          for (const id of delivered.ids) ids.push(id);
          request.onTokens?.(delivered.ids.length);
        },
        done: (summary) => end("done", summary),
        failed: (error) => end(error.code),
      },
    );
    cancel = () => generation.cancel();
  });
  return { ended, cancel: () => cancel() };
}

/** Milliseconds to the first token; NaN when there was none. */
export function firstTokenMs({ deliveries, submittedMs }: StreamRecord): number {
  return (deliveries[0]?.atMs ?? Number.NaN) - submittedMs;
}

/** Milliseconds an output token after the first delivery. */
export function tokenMs({ deliveries }: StreamRecord): number {
  const [first, last] = [deliveries[0], deliveries.at(-1)];
  const tokens = deliveries.slice(1).reduce((sum, delivery) => sum + delivery.tokens, 0);
  return first && last ? (last.atMs - first.atMs) / tokens : Number.NaN;
}

/** Milliseconds a token took, for each delivery after the first. */
export function gapsMs({ deliveries }: StreamRecord): number[] {
  return deliveries.slice(1).map(({ atMs, tokens }, i) => (atMs - deliveries[i]!.atMs) / tokens);
}

/** A prompt of random ids: no prefix cache helps. */
export function randomPrompt(random: () => number, tokens: number, vocabulary: number): Uint32Array {
  return Uint32Array.from({ length: tokens }, () => Math.floor(random() * vocabulary));
}
