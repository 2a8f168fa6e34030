import * as z from "zod";
import { ROUTE_POLICIES } from "../policy/route-policy.js";

/**
 * The configuration: one schema gives the types, the checks and the published JSON schema
 * (config/schema.json). Every constant names its unit; presets live in config/*.yaml.
 */

const positive = (otherwise: string) => z.number().int().positive(otherwise);
const count = z.number().int().positive();
/** No more than timers can wait, which is 24 days: they take more as no wait at all. */
const milliseconds = z
  .number()
  .nonnegative()
  .max(2 ** 31 - 1);

/** Signals are some hundred bytes long, and a sender should not meet a full ring at each. */
const LEAST_RING_BYTES = 4096;
/** What 32-bit positions in a ring can tell apart. */
const MOST_RING_BYTES = 1 << 30;
const ring = count
  .min(LEAST_RING_BYTES)
  .max(MOST_RING_BYTES)
  .refine((bytes) => Number.isInteger(Math.log2(bytes)), "it must be a power of two");
/** A prompt of some thousand tokens; and what @thi.ng/malloc can address. */
const LEAST_SLAB_BYTES = 1 << 14;
const MOST_SLAB_BYTES = 2 ** 31 - 8;

const server = z
  .strictObject({
    /** Loopback by default; any other address requires `apiKey`. */
    host: z.string().default("127.0.0.1"),
    port: z.number().int().min(0).max(65535).default(8080),
    apiKey: z.string().min(1).optional(),
    /** Browser origins that may connect besides the server's own. */
    allowedOrigins: z.array(z.string()).default([]),
    maxBodyBytes: count.default(4 * 1024 * 1024),
    maxSockets: count.default(1024),
    /** Generations that one WebSocket may have open. */
    maxRequestsPerSocket: count.default(256),
    /** Output tokens when a request names no `max_tokens`. */
    defaultMaxTokens: count.default(512),
    /** Tokens sent ahead of a reader that has not drained its socket. */
    creditWindowTokens: count.default(256),
    /** A reader that takes nothing for so long loses its stream (`slow_reader`). */
    stallMs: milliseconds.default(60_000),
  })
  .prefault({});

const engine = z
  .strictObject({
    /** Compute threads over all lanes; 0: one a processor that the affinity mask and CPU quota leave to us. */
    threads: z.number().int().nonnegative().default(0),
    /**
     * "pin": each on a processor of its own, spread over the memory nodes; weights and KV are then spread over the nodes
     * too. "none": neither. "auto": both where there is more than one node.
     */
    affinity: z.enum(["auto", "pin", "none"]).default("auto"),
    /**
     * Kernel family: "auto", "portable", "avx2", "avx2-vnni", "avx512-vnni", "neon-dotprod" or "neon-i8mm".
     */
    instructionSet: z.string().default("auto"),
    /** Tokens of KV in the pool that all lanes share. */
    kvTokens: count.default(16_384),
    /**
     * How they are kept: as 16-bit floats (bf16 has room for larger values, f16 is the more exact), or as int8 with a
     * scale a token and head, in 51 to 53% of the memory. What each costs in accuracy is in docs/decisions/kv-int8.md.
     */
    kv: z.enum(["f16", "bf16", "int8"]).default("f16"),
    /** Tokens in a KV block. */
    blockTokens: z.union([z.literal(16), z.literal(32)]).default(32),
    /**
     * Tenants share no cached prefixes, so that none learns from the time of an answer what another has asked; each
     * then pays for prompts that they have in common.
     */
    isolateTenants: z.boolean().default(false),
    /** Context limit in tokens, from 16, for less is no prompt and answer; 0: the model's own. */
    contextTokens: z
      .number()
      .int()
      .nonnegative()
      .refine((tokens) => tokens === 0 || tokens >= 16, "give 16 or more, or 0 for the model's own context")
      .default(0),
    /**
     * What packed weights kept on disk between starts may take, in bytes: some four models of 7B in 4 bits. The
     * least recently used go first; 0 keeps none.
     */
    packedCacheBytes: z
      .number()
      .int()
      .nonnegative()
      .default(16 * 2 ** 30),
    /** Where they are kept; "": streamserve/packed in the user's cache directory. */
    packedCacheDirectory: z.string().default(""),
    /**
     * What a file may take, in bytes, to which cached prefixes go that give way to others, and from which they are read
     * when that is quicker than computing them; 0: there is none. It holds what prompts said, readable by its owner alone.
     */
    prefixTierBytes: z.number().int().nonnegative().default(0),
    /** Where it is; "": streamserve/prefixes in the user's cache directory. */
    prefixTierDirectory: z.string().default(""),
    /**
     * Copies packed weights into this process's memory at a start instead of mapping the file. Mapped, they are shared by all
     * processes; copied, they lie in huge pages on any file system.
     */
    copyWeights: z.boolean().default(false),
  })
  .prefault({});

const lane = (rows: number, tokens: number) => ({
  /** Most sequences in a step. */
  maxRows: positive("a lane without rows serves nobody: give 1 or more").default(rows),
  /** Most new tokens in a step. */
  maxBatchTokens: positive("a step without tokens gets nowhere: give 1 or more").default(tokens),
  /** Least time between two load reports, in milliseconds: fresh against a request's life, rare against steps. */
  reportMs: milliseconds.default(20),
});

const prefill = z
  .strictObject({
    ...lane(16, 256),
    /** New tokens of a step of offline prompts alone, at most: what an interactive request may have to wait for. */
    offlineBatchTokens: count.default(64),
    /**
     * Prompt tokens that a millisecond of waiting is worth when prompts are ordered shortest first: at 0.5 a
     * prompt of 4,000 tokens is overtaken for 8 s at most.
     */
    agingTokensPerMs: z.number().positive().default(0.5),
    /** How long a prompt waits for KV blocks before it is given back, in milliseconds: several decode answers. */
    kvPatienceMs: milliseconds.default(2000),
    /** How often a prompt that lacks KV blocks is tried again, in milliseconds: about a decode step. */
    kvRetryMs: milliseconds.default(5),
  })
  .prefault({});

const decode = z
  .strictObject({
    ...lane(64, 256),
    /** How often a lane without a runnable row looks at deadlines and stalled readers, in milliseconds. */
    watchMs: milliseconds.default(100),
  })
  .prefault({});

/** What a class of requests is promised; 0: nothing. */
const objectives = (ttftMs: number) =>
  z
    .strictObject({
      /** Milliseconds to the first token: a request that is predicted to take longer is refused at once. */
      ttftMs: milliseconds.default(ttftMs),
      /** Milliseconds an output token: no more requests decode at once than keep to it. */
      tpotMs: milliseconds.default(0),
    })
    .prefault({});

const scheduler = z
  .strictObject({
    /**
     * Who is admitted and when: "admission", by what requests are predicted to need; "fifo", everyone at once, in order
     * of arrival and without classes, for comparisons: what does not fit waits, and gives way, in the lanes.
     */
    policy: z.enum(["admission", "fifo"]).default("admission"),
    /** Half a minute: about when somebody who waits gives up. */
    interactive: objectives(30_000),
    offline: objectives(0),
    /** Share of requests that are to keep to the time predicted for them: predictions are stretched as it takes. */
    predictionShare: z.number().gt(0).lt(1).default(0.95),
    /** Answers of a kind over which output lengths are learnt: enough for the quantile below, few enough to follow. */
    lengthMemory: count.default(64),
    /** Share of answers that a KV reservation covers; one that turns out longer may have to begin again. */
    lengthShare: z.number().gt(0).max(1).default(0.9),
    /** Tenants whose share is remembered. */
    mostTenants: count.default(1024),
    /** What an output token counts in a tenant's share, in prompt tokens: it takes a step, those come many a step. */
    outputWeight: z.number().positive().default(2),
    /** Requests waiting for admission, at most; one more is refused with `overloaded`. */
    maxWaiting: count.default(1024),
    /** Requests in lanes, at most. */
    maxRunning: count.default(256),
    /** A waiting request too big for the free KV is passed by smaller ones for so long, in milliseconds. */
    passMs: milliseconds.default(2000),
    /** While interactive requests keep offline ones waiting, one of these goes first every so many milliseconds. */
    offlinePatienceMs: milliseconds.default(60_000),
    /** Requests behind one that does not fit that are tried: enough to fill gaps, few enough to be quick. */
    lookAhead: count.default(16),
    /** Requests over which the time that KV is held is averaged for predictions of waits. */
    holdMemory: count.default(32),
    /** What a refused client is told to wait while nothing is known, and the most, in milliseconds. */
    retryAfterMs: milliseconds.default(1000),
    mostRetryAfterMs: milliseconds.default(60_000),
    /** How often lanes are asked what they hold, in milliseconds: bounds how long a lost request goes unnoticed. */
    auditMs: milliseconds.default(1000),
    /** Attempts at one request over lane deaths and preemptions, at most. */
    maxAttempts: count.default(16),
    /** A cancelled request is let go after so long even if no lane confirms, in milliseconds. */
    closeMs: milliseconds.default(10_000),
    /**
     * A request whose reader takes nothing for so long gives its KV to interactive ones that wait, and comes back when
     * its reader takes more, in milliseconds: longer than a reader that keeps up ever pauses.
     */
    idleReaderMs: milliseconds.default(1000),
  })
  .prefault({});

const router = z
  .strictObject({
    /**
     * How a pair is chosen: by FlowGuard's predictions, or by what is usual elsewhere, to compare with: in turn, at
     * random, the fewest requests, the longest cached prefix.
     */
    policy: z.enum(ROUTE_POLICIES).default("flowguard"),
    /**
     * "static": prompts are computed in prefill lanes and answers in decode lanes, always. "balanced": short prompts may
     * go straight to a decode lane (`directTokens`), and while one kind of lane starves the other does its work too.
     * "auto": balanced where each lane has a device of its own; where lanes share cores, an idle one's cores are the
     * other's already, and only short prompts go straight on.
     */
    roles: z.enum(["auto", "static", "balanced"]).default("auto"),
    /** Cost of moving a KV block within a pair, in milliseconds; 0 where both lanes share a pool. */
    handOffBlockMs: milliseconds.default(0),
    /** A lane whose step is overdue by more than this is predicted to be later by the rest, in milliseconds. */
    staleMs: milliseconds.default(200),
    /** Predicted wait for a KV block that is not free, in milliseconds: about what a step frees. */
    missingBlockMs: milliseconds.default(50),
    /** Pairs whose predicted cost is so near the least, as a share of it, take turns: predictions are no better. */
    nearShare: z.number().min(0).max(1).default(0.02),
    /**
     * How much a prompt's computation delays those who come later, as a share of its time: 0 on an idle machine, 1 at
     * half its capacity. The more, the further a request goes for a cached prefix.
     */
    burden: z.number().nonnegative().default(6),
    /**
     * Weight of the time to a request's first token beside the time of all tokens after it. Above 1, since the slowest
     * first tokens are those of prompts behind other prompts, and few tokens after it are slow.
     */
    firstTokenWeight: z.number().nonnegative().default(4),
    /** Weight of what a pair's rows lose by one more, beside what the new one gets. */
    othersShare: z.number().nonnegative().default(0.2),
    /**
     * Weight of how far a pair's time per token is above the mean of all pairs, squared, as a share of that mean: what
     * holds back a gain in first tokens, or a cached prefix, from making all answers of a pair slow.
     */
    unevenShare: z.number().nonnegative().default(15),
    /**
     * A prompt of which so many tokens or fewer must be computed may go straight to the decode lane, where that is
     * predicted to be faster even with what it costs the rows there. 0: none does.
     */
    directTokens: z.number().int().nonnegative().default(128),
    /**
     * Weight of what rows wait for prompts in their own lane, beside what a first token gains: above 1, for the gain is
     * many times one request's and the loss falls on the same few slow steps.
     */
    directCaution: z.number().nonnegative().default(12),
    /**
     * With `roles` balanced: a pair's prefill lane, if it is idle half of the time, decodes too once a step with all the
     * pair's rows takes so many times what one with a single row does.
     */
    lendPressure: z.number().min(1).default(2),
    /** With `roles` balanced: a pair's decode lane computes prompts of any length once so many whole steps of them wait. */
    lendSteps: z.number().positive().default(10),
    /** Tokens by which the router tells cached prefixes apart: few enough to matter, many enough to be quick. */
    prefixGrainTokens: count.default(128),
    /** Prefix grains that the router remembers, at most: some 100 bytes each. */
    prefixGrains: count.default(100_000),
  })
  .prefault({});

const speculation = z
  .strictObject({
    /**
     * How many drafts are verified: "goodput", as many as pay; "acceptance", for comparisons: each request's depth
     * follows what it has accepted and nothing else, 2 more after a step that accepted all, 1 fewer after any other.
     */
    policy: z.enum(["goodput", "acceptance"]).default("goodput"),
    /** Draft tokens a row and step, at most; 0 turns speculation off. */
    maxDepth: z.number().int().min(0).max(16).default(12),
    /** Drafts a row and step whatever they earn: for comparisons. Absent: as many as pay. */
    fixedDepth: z.number().int().min(0).max(16).optional(),
    /**
     * A draft model: catalogue name or path, of the same vocabulary. It drafts where that pays, beside the drafters that
     * need none. Absent: none.
     */
    draftModel: z.string().min(1).optional(),
    /** Tokens of KV in its pool; absent: as many as `engine.kvTokens`. Requests beyond go on without its drafts. */
    draftKvTokens: count.optional(),
    /**
     * Answers that the model gave elsewhere, as `npm run bench -- answers` records them, from which is drafted where a
     * tenant's own outputs say little yet. Absent: those that came with a model of the catalogue; "none": none.
     */
    knownAnswers: z.string().min(1).optional(),
    /** Longest and shortest suffix looked up in prompt, output and recent outputs, in tokens. */
    longestSuffix: z.number().int().min(1).max(16).default(6),
    shortestSuffix: z.number().int().min(1).max(16).default(1),
    /** What a request's own text, and the recent outputs of a tenant, may take, in entries of 16 bytes. */
    ownEntries: count.default(1 << 16),
    recentEntries: count.default(1 << 16),
    /** Tenants whose recent outputs a lane keeps: some 17 MB at most. */
    tenants: count.default(16),
    /** Drafts are not followed where they are reached with less than this probability: they never pay. */
    leastSurvival: z.number().min(0).max(1).default(0.02),
    /** Tries of one kind of evidence, and tokens of one request, over which drafts are judged. */
    memoryTries: count.default(500),
    memoryTokens: count.default(100),
    /** Tries that a kind of evidence, and kept drafts that a request, are believed to be like all others for. */
    priorTries: z.number().positive().default(8),
    priorHits: z.number().positive().default(10),
    /** Steps between two reports of a lane to the tuner. */
    newsSteps: count.default(128),
  })
  .prefault({});

const stepCost = z
  .strictObject({
    /**
     * Steps of each kind of lane are timed for about so long before the first request, in milliseconds, and for about 60%
     * of that with context and with more rows: a small model is timed at each size, both kinds take less than a second.
     * 0: the times below are assumed.
     */
    calibrateMs: milliseconds.default(250),
    /** Step assumed where it was not timed, in milliseconds: fixed, and a new token. A 135M model on two cores. */
    fixedMs: milliseconds.default(2.6),
    tokenMs: milliseconds.default(0.5),
    /** A thousand tokens of context read; the same attended to by a row's second and later new token; a second and later row. */
    contextMs: milliseconds.default(1.4),
    attendMs: milliseconds.default(0.2),
    rowMs: milliseconds.default(0.05),
    /** How many times longer a step takes beside lanes of the other kind, until that has been seen. */
    sharedFactor: z.number().min(1).default(1.6),
    /** Share of what was learnt that each step leaves: 0.999 is back at the first doubt after some thousand steps. */
    forgetting: z.number().min(0.5).max(1).default(0.999),
  })
  .prefault({});

const runtime = z
  .strictObject({
    /** Ring capacity of an edge, in bytes; a power of two. */
    ringBytes: ring.default(1 << 18),
    /** Ring capacity of edges that carry signals alone, in bytes; a power of two. */
    signalRingBytes: ring.default(1 << 16),
    /** Slab for prompts and outputs of live requests, in bytes. */
    promptSlabBytes: count
      .min(LEAST_SLAB_BYTES)
      .max(MOST_SLAB_BYTES)
      .default(32 * 1024 * 1024),
    /** Restarts of an actor allowed within `restartWithinMs`. */
    restarts: count.default(10),
    restartWithinMs: milliseconds.default(60_000),
    /** Delay before the first restart, and the most it doubles up to, in milliseconds. */
    restartDelayMs: milliseconds.default(10),
    mostRestartDelayMs: milliseconds.default(2000),
    /** How often the gateway looks at held streams, and tries full edges again, in milliseconds. */
    gatewayTickMs: milliseconds.default(250),
    gatewayRetryMs: milliseconds.default(2),
    /** Record trace rings from the start. */
    trace: z.boolean().default(false),
  })
  .prefault({});

export const configSchema = z.strictObject({
  /** Catalogue name, or the path of a .gguf file, a .safetensors file or the directory of a safetensors model. */
  model: z.string().default("smollm2-135m-instruct"),
  /** Stream pairs: each one prefill lane and one decode lane. */
  pairs: z
    .number()
    .int()
    .min(1, "a pair is a prefill lane and a decode lane, and without any nothing is served: give 1 to 64")
    .max(64)
    .default(1),
  /**
   * "disaggregated": a pair's prompts are computed in one lane and its answers in the other. "fused", for comparisons:
   * its decode lane computes both in common steps, prompts in chunks of what `decode.maxBatchTokens` leaves; the prefill
   * lane stays idle. A fused pair stands for one device.
   */
  lanes: z.enum(["disaggregated", "fused"]).default("disaggregated"),
  server,
  engine,
  prefill,
  decode,
  scheduler,
  router,
  speculation,
  stepCost,
  runtime,
});

export type Config = z.output<typeof configSchema>;
