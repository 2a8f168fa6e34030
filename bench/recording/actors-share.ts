import { configSchema } from "#streamserve/config/schema.js";
import type { GenerationService } from "#streamserve/gateway/generation.js";
import { openCore } from "#streamserve/gateway/open-core.js";
import { RECORDED_SETS, readRecording } from "#streamserve/model/recording.js";
import { median } from "#streamserve/report/statistics.js";
import type { SharedFactors } from "#streamserve/simulate/serving/lane-watch.js";
import { BenchError } from "../bench-error.js";
import { openStream, type StreamRequest } from "../scheduling/stream.js";

/** What lanes do with actors around them, that bare lanes do not. */
export interface ActorsShare {
  /** Added to a decode step, for each of its new tokens after the first, and to the way of a request: milliseconds. */
  readonly stepMs: number;
  readonly tokenMs: number;
  readonly requestMs: number;
  /** How many times longer steps take beside lanes of the other kind. */
  readonly shared: SharedFactors;
}

/** What steps take without actors, in milliseconds. */
export interface BareSteps {
  /** A decode step of one row of so many new tokens behind so much context; a step of a whole prompt. */
  readonly decodeMs: (tokens: number, context: number) => number;
  readonly promptMs: (tokens: number) => number;
  /** How many times slower the machine is now than when these were measured. */
  readonly slower: () => number;
}

/** Requests measured, of all recorded sets in turn; the first ones compile. */
const ROUNDS = 24;
const WARM = 4;
const OUTPUT_TOKENS = 96;
/** Tokens of the prompts that are computed beside a stream, and how many of them. */
const BESIDE_TOKENS = 512;
const BESIDE_PROMPTS = 12;
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
    const added: { tokens: number; ms: number }[] = [];
    const requests: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const { prompt } = sets[round % sets.length]![Math.floor(round / sets.length)]!;
      const slower = bare.slower();
      core.actors.traces();
      const { firstMs, cachedTokens } = await stream(core.service, { prompt, maxTokens: OUTPUT_TOKENS });
      const steps = core.actors
        .traces()
        .filter(({ name }) => name === "decode")
        .sort((a, b) => a.start - b.start);
      if (round < WARM) continue;
      requests.push(firstMs - slower * bare.promptMs(prompt.length - cachedTokens));
      for (const [i, { start, value }] of steps.entries()) {
        // From one step's beginning to the next one's: what lies between belongs to it.
        const next = steps[i + 1];
        const context = prompt.length + (OUTPUT_TOKENS * i) / steps.length;
        if (next)
          added.push({ tokens: value, ms: next.start - start - slower * bare.decodeMs(value, context) });
      }
    }
    const stepMs = Math.max(0, median(added.filter(({ tokens }) => tokens === 1).map(({ ms }) => ms)));
    const drafted = added.filter(({ tokens }) => tokens > MANY);
    const tokenMs = drafted.map(({ tokens, ms }) => (ms - stepMs) / (tokens - 1));
    return {
      stepMs,
      tokenMs: tokenMs.length > 0 ? Math.max(0, median(tokenMs)) : 0,
      requestMs: Math.max(0, median(requests)),
      shared: await measureSharing(core.service),
    };
  } finally {
    await core.close();
  }
}

/** A stream that decodes beside prompts that come one after another, and both alone. */
async function measureSharing(service: GenerationService): Promise<SharedFactors> {
  let made = 0;
  // All others than those before: nothing is found in the cache, and nothing is foretold.
  const prompt = () =>
    Uint32Array.from({ length: BESIDE_TOKENS }, (_, i) => (i * 7919 + ++made * 31) % 40_000);
  const alone = { prefill: [] as number[], decode: [] as number[] };
  const beside = { prefill: [] as number[], decode: [] as number[] };
  for (let i = 0; i < BESIDE_PROMPTS; i++) {
    const times: number[] = [];
    const background = stream(service, {
      prompt: prompt().subarray(0, 64),
      maxTokens: OUTPUT_TOKENS,
      onTokens: () => times.push(performance.now()),
      // Text that nothing foretells: steps of one token.
      sampling: { temperature: 1, seed: i },
    });
    while (times.length < 2) await new Promise(setImmediate);
    const from = performance.now();
    beside.prefill.push((await stream(service, { prompt: prompt(), maxTokens: 1 })).firstMs);
    const to = performance.now();
    await background;
    alone.prefill.push((await stream(service, { prompt: prompt(), maxTokens: 1 })).firstMs);
    for (const [n, at] of times.entries()) {
      const before = times[n - 1];
      if (before === undefined) continue;
      if (before > from && at < to) beside.decode.push(at - before);
      else if (before > to) alone.decode.push(at - before);
    }
  }
  const factor = (role: "prefill" | "decode") =>
    alone[role].length > 0 && beside[role].length > 0
      ? Math.max(1, median(beside[role]) / median(alone[role]))
      : 1;
  return { prefill: factor("prefill"), decode: factor("decode") };
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
