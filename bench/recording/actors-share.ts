import { configSchema } from "#streamserve/config/schema.js";
import type { GenerationService } from "#streamserve/gateway/generation.js";
import { openCore } from "#streamserve/gateway/open-core.js";
import { RECORDED_SETS, readRecording } from "#streamserve/model/recording.js";
import { median } from "#streamserve/report/statistics.js";
import type { Span } from "#streamserve/runtime/trace-ring.js";
import { BenchError } from "../bench-error.js";
import { openStream, type StreamRequest } from "../scheduling/stream.js";

/** What lanes do with actors around them, that bare lanes do not. */
export interface ActorsShare {
  /** Added to a decode step, for each of its new tokens after the first, and to the way of a request: milliseconds. */
  readonly stepMs: number;
  readonly tokenMs: number;
  readonly requestMs: number;
  /** How many times longer steps take beside lanes of the other kind. */
  readonly shared: { readonly prefill: number; readonly decode: number };
}

/** What steps take without actors, in milliseconds. */
export interface BareSteps {
  /** A decode step of one row of so many new tokens behind so much context. */
  readonly decodeMs: (tokens: number, context: number) => number;
  /** The steps of a prompt of so many tokens, timed now. */
  readonly promptMs: (tokens: number) => number;
  /** How many times slower the machine is now than when these were measured. */
  readonly slower: () => number;
}

/** Requests measured, of all recorded sets in turn; the first ones compile. */
const ROUNDS = 24;
const WARM = 4;
const OUTPUT_TOKENS = 96;
/** Tokens of the prompts that are computed beside a stream, each in one step, and how many of them. */
const BESIDE_TOKENS = 256;
const BESIDE_PROMPTS = 24;
const KV_TOKENS = 16_384;
/** Drafts from so many on tell what each costs. */
const MANY = 4;

/**
 * Serves requests through all actors (no HTTP) on an otherwise idle machine, with tracing, and compares each step with a
 * bare one. `path`: the model that `bare` is of.
 */
export async function measureActors(path: string, threads: number, bare: BareSteps): Promise<ActorsShare> {
  const core = await openCore(
    configSchema.parse({ model: path, engine: { threads, kvTokens: KV_TOKENS }, runtime: { trace: true } }),
  );
  try {
    const sets = RECORDED_SETS.map((set) => readRecording(set).requests);
    const added: Added[][] = [];
    const requests: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const { prompt } = sets[round % sets.length]![Math.floor(round / sets.length)]!;
      const slower = bare.slower();
      core.actors.traces();
      const { firstMs, cachedTokens } = await stream(core.service, { prompt, maxTokens: OUTPUT_TOKENS });
      const steps = stepsOf(core.actors.traces(), "decode");
      if (round < WARM) continue;
      requests.push(firstMs - bare.promptMs(prompt.length - cachedTokens));
      const own: Added[] = [];
      added.push(own);
      for (const [i, { start, value }] of steps.entries()) {
        // From one step's beginning to the next one's: what lies between belongs to it.
        const next = steps[i + 1];
        const context = prompt.length + (OUTPUT_TOKENS * i) / steps.length;
        if (next)
          own.push({ tokens: value, ms: next.start - start - slower * bare.decodeMs(value, context) });
      }
    }
    const stepMs = usually(added, ({ tokens, ms }) => (tokens === 1 ? ms : undefined));
    return {
      stepMs,
      tokenMs: usually(added, ({ tokens, ms }) => (tokens > MANY ? (ms - stepMs) / (tokens - 1) : undefined)),
      requestMs: Math.max(0, median(requests)),
      shared: await measureSharing(core),
    };
  } finally {
    await core.close();
  }
}

/** What lay between a decode step of so many tokens and the next one, beyond what a bare step takes: milliseconds. */
interface Added {
  readonly tokens: number;
  readonly ms: number;
}

/**
 * Of each request the mean, since what its reader waits for is the sum of its steps; of requests the median, since
 * other programs disturb some. 0 at least.
 */
function usually(requests: readonly (readonly Added[])[], of: (step: Added) => number | undefined): number {
  const means = requests.flatMap((steps) => {
    const values = steps.map(of).filter((value) => value !== undefined);
    return values.length > 0 ? [mean(values)] : [];
  });
  return means.length > 0 ? Math.max(0, median(means)) : 0;
}

function mean(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0) / values.length;
}

/**
 * How many times longer steps take beside the other kind: of a stream that decodes, and of prompts that come one after
 * another, each beside it and alone. Of each round a ratio, since a machine's speed changes; the median of them.
 */
async function measureSharing({ service, actors }: Core): Promise<ActorsShare["shared"]> {
  let made = 0;
  // All others than those before: nothing is found in the cache, and nothing is foretold.
  const prompt = (tokens: number) =>
    Uint32Array.from({ length: tokens }, (_, i) => (i * 7919 + ++made * 31) % 40_000);
  const ratios = { prefill: [] as number[], decode: [] as number[] };
  for (let i = 0; i < BESIDE_PROMPTS; i++) {
    actors.traces();
    let delivered = 0;
    const background = stream(service, {
      prompt: prompt(64),
      maxTokens: OUTPUT_TOKENS,
      onTokens: () => delivered++,
      // Text that nothing foretells: steps of one token.
      sampling: { temperature: 1, seed: i },
    });
    while (delivered < 2) await new Promise(setImmediate);
    await stream(service, { prompt: prompt(BESIDE_TOKENS), maxTokens: 1 });
    await background;
    await stream(service, { prompt: prompt(BESIDE_TOKENS), maxTokens: 1 });
    const spans = actors.traces();
    const decoding = stepsOf(spans, "decode").filter(({ value }) => value === 1);
    const prompts = stepsOf(spans, "prefill").filter(({ value }) => value === BESIDE_TOKENS);
    const [beside, alone] = prompts;
    if (!beside || !alone || prompts.length > 2) continue;
    const within = decoding.filter(({ start, end }) => start >= beside.start && end <= beside.end);
    const apart = decoding.filter(({ start }) => start > beside.end);
    // A step of prefill that outlasted the stream was not beside it to its end.
    if (within.length === 0 || apart.length === 0) continue;
    ratios.prefill.push(msOf(beside) / msOf(alone));
    ratios.decode.push(mean(within.map(msOf)) / mean(apart.map(msOf)));
  }
  const factor = (role: "prefill" | "decode") =>
    ratios[role].length > 0 ? Math.max(1, median(ratios[role])) : 1;
  return { prefill: factor("prefill"), decode: factor("decode") };
}

type Core = Awaited<ReturnType<typeof openCore>>;

function stepsOf(spans: readonly Span[], name: "prefill" | "decode"): Span[] {
  return spans.filter((span) => span.name === name).sort((a, b) => a.start - b.start);
}

function msOf({ start, end }: Span): number {
  return end - start;
}

/** Serves one request to its end. Throws BenchError if it fails. */
async function stream(
  service: GenerationService,
  request: StreamRequest,
): Promise<{ readonly firstMs: number; readonly cachedTokens: number }> {
  const { summary, outcome } = await openStream(service, request).ended;
  if (!summary) throw new BenchError(`A request through the actors failed (${outcome}).`);
  return { firstMs: summary.timings.firstTokenMs, cachedTokens: summary.cachedTokens };
}
