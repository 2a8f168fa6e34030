import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { StreamServeError } from "../errors.js";
import type { GenerationService, GenerationSummary, LaneSnapshot, ServiceSnapshot } from "./generation.js";
import type { GenerationObserver } from "./metered-service.js";

/** Seconds; fine where a laptop answers, coarse up to a deep queue. */
const LATENCY_BUCKETS = [0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1, 2, 4, 8, 16, 32, 64, 128];
const TOKEN_BUCKETS = [
  0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.05, 0.08, 0.15, 0.3, 0.6, 1, 2,
];

/** Counts what the doors alone see. */
export interface DoorCounts {
  sockets(): number;
  webSockets(): number;
}

/**
 * /metrics in Prometheus' text format. Names and meanings are vLLM's (`vllm:…`) where both have the thing, so
 * that its dashboards work; the rest is `streamserve_…`.
 */
export class Metrics implements GenerationObserver {
  readonly #registry = new Registry();
  readonly #timeToFirstToken: Histogram;
  readonly #timePerToken: Histogram;
  readonly #latency: Histogram;
  readonly #queueTime: Histogram;
  readonly #failures: Counter;
  readonly #answers: Counter;

  /** Of the scrape in hand: all that is read at one is read once. */
  #snapshot: ServiceSnapshot;

  constructor(
    readonly service: GenerationService,
    doors: DoorCounts,
  ) {
    this.#snapshot = service.snapshot();
    this.#registry.setDefaultLabels({ model_name: service.info.model });
    this.#timeToFirstToken = this.#histogram(
      "vllm:time_to_first_token_seconds",
      "From request to first token.",
      LATENCY_BUCKETS,
    );
    this.#timePerToken = this.#histogram(
      "vllm:inter_token_latency_seconds",
      "Mean time between output tokens of a request, the first excluded.",
      TOKEN_BUCKETS,
    );
    this.#latency = this.#histogram(
      "vllm:e2e_request_latency_seconds",
      "From request to end.",
      LATENCY_BUCKETS,
    );
    this.#queueTime = this.#histogram(
      "vllm:request_queue_time_seconds",
      "From request to admission.",
      LATENCY_BUCKETS,
    );
    this.#failures = new Counter({
      name: "streamserve_request_failures_total",
      help: "Requests that did not end well, by error code.",
      labelNames: ["code"],
      registers: [this.#registry],
    });
    this.#answers = new Counter({
      name: "streamserve_http_answers_total",
      help: "HTTP answers, by status.",
      labelNames: ["status"],
      registers: [this.#registry],
    });
    this.#readAtScrape(doors);
  }

  ended({ timings, outputTokens }: GenerationSummary): void {
    this.#timeToFirstToken.observe(timings.firstTokenMs / 1000);
    this.#latency.observe(timings.totalMs / 1000);
    this.#queueTime.observe(timings.queuedMs / 1000);
    if (outputTokens > 1) {
      this.#timePerToken.observe((timings.totalMs - timings.firstTokenMs) / 1000 / (outputTokens - 1));
    }
  }

  failed(error: StreamServeError): void {
    this.#failures.inc({ code: error.code });
  }

  answered(status: number): void {
    this.#answers.inc({ status: String(status) });
  }

  text(): Promise<string> {
    this.#snapshot = this.service.snapshot();
    return this.#registry.metrics();
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  #histogram(name: string, help: string, buckets: number[]): Histogram {
    return new Histogram({ name, help, buckets, registers: [this.#registry] });
  }

  #readAtScrape(doors: DoorCounts): void {
    const { draftKv, prefixTier } = this.#snapshot;
    const now = () => this.#snapshot;
    const gauges = [...GAUGES, ...(draftKv ? DRAFT_GAUGES : []), ...(prefixTier ? TIER_GAUGES : [])];
    for (const [name, help, value] of gauges) {
      new Gauge({
        name,
        help,
        registers: [this.#registry],
        collect() {
          this.set(value(now()));
        },
      });
    }
    for (const [name, help, value] of [...COUNTERS, ...(prefixTier ? TIER_COUNTERS : [])]) {
      new Counter({
        name,
        help,
        registers: [this.#registry],
        collect() {
          this.reset();
          this.inc(value(now()));
        },
      });
    }
    new Counter({
      name: "vllm:request_success_total",
      help: "Requests ended, by reason.",
      labelNames: ["finished_reason"],
      registers: [this.#registry],
      collect() {
        this.reset();
        for (const [reason, count] of Object.entries(now().requestsEnded)) {
          this.inc({ finished_reason: reason }, count);
        }
      },
    });
    for (const [name, help, value] of LANE_GAUGES) {
      new Gauge({
        name,
        help,
        labelNames: ["lane", "role"],
        registers: [this.#registry],
        collect() {
          for (const lane of now().lanes) this.set({ lane: lane.name, role: lane.role }, value(lane));
        },
      });
    }
    this.#draftsAtScrape();
    new Gauge({
      name: "streamserve_sockets",
      help: "Open TCP connections.",
      registers: [this.#registry],
      collect() {
        this.set(doors.sockets());
      },
    });
    new Gauge({
      name: "streamserve_websockets",
      help: "Open WebSockets.",
      registers: [this.#registry],
      collect() {
        this.set(doors.webSockets());
      },
    });
  }

  /** What each drafter has proposed and got right, lane by lane. */
  #draftsAtScrape(): void {
    const now = () => this.#snapshot;
    for (const [name, help, value] of DRAFTER_COUNTERS) {
      new Counter({
        name,
        help,
        labelNames: ["lane", "drafter"],
        registers: [this.#registry],
        collect() {
          this.reset();
          for (const lane of now().lanes)
            for (const drafter of lane.drafters)
              this.inc({ lane: lane.name, drafter: drafter.name }, value(drafter));
        },
      });
    }
  }
}

type Row<S> = readonly [name: string, help: string, value: (snapshot: S) => number];

const GAUGES: readonly Row<ServiceSnapshot>[] = [
  ["vllm:num_requests_running", "Requests in lanes.", (s) => s.requestsRunning],
  ["vllm:num_requests_waiting", "Requests waiting for admission.", (s) => s.requestsWaiting],
  [
    "vllm:kv_cache_usage_perc",
    "Share of KV blocks held by live sequences, 0 to 1.",
    (s) => share(s.kv.usedBlocks, s.kv.totalBlocks),
  ],
  ["streamserve_kv_blocks_total", "KV blocks of the pool; free + cached + used.", (s) => s.kv.totalBlocks],
  ["streamserve_kv_blocks_free", "KV blocks that nobody needs.", (s) => s.kv.freeBlocks],
  ["streamserve_kv_blocks_cached", "KV blocks kept for their prefix alone.", (s) => s.kv.cachedBlocks],
  ["streamserve_kv_blocks_used", "KV blocks held by live sequences.", (s) => s.kv.usedBlocks],
  ["streamserve_kv_sequences", "Live sequences in the pool.", (s) => s.kv.sequences],
];

const COUNTERS: readonly Row<ServiceSnapshot>[] = [
  ["vllm:prompt_tokens_total", "Prompt tokens taken in.", (s) => s.promptTokens],
  ["vllm:generation_tokens_total", "Output tokens.", (s) => s.outputTokens],
  ["vllm:spec_decode_num_draft_tokens_total", "Draft tokens proposed.", (s) => s.draftTokens],
  ["vllm:spec_decode_num_accepted_tokens_total", "Draft tokens accepted.", (s) => s.acceptedTokens],
  ["streamserve_prefix_cache_hits_total", "Prompt blocks found in the prefix cache.", (s) => s.kv.prefixHits],
  ["streamserve_prefix_cache_misses_total", "Whole prompt blocks not found there.", (s) => s.kv.prefixMisses],
  [
    "streamserve_prefix_cache_evictions_total",
    "Cached blocks that gave way to others.",
    (s) => s.kv.prefixEvictions,
  ],
  ["vllm:num_preemptions_total", "Requests that gave way and were prefilled again.", (s) => s.preemptions],
  ["streamserve_resumptions_total", "Requests continued after their lane died.", (s) => s.resumptions],
  ["streamserve_dead_letters_total", "Messages that no actor could be given.", (s) => s.deadLetters],
  ["streamserve_actor_restarts_total", "Actors started again after they failed.", (s) => s.actorRestarts],
];

/** With a draft model alone. */
const DRAFT_GAUGES: readonly Row<ServiceSnapshot>[] = [
  [
    "streamserve_draft_kv_blocks_total",
    "KV blocks of the draft model's pool.",
    (s) => s.draftKv?.totalBlocks ?? 0,
  ],
  [
    "streamserve_draft_kv_blocks_used",
    "KV blocks that its live sequences hold.",
    (s) => s.draftKv?.usedBlocks ?? 0,
  ],
];

/** With a file for cached prefixes alone. */
const TIER_GAUGES: readonly Row<ServiceSnapshot>[] = [
  [
    "streamserve_prefix_tier_blocks_total",
    "KV blocks that the file has room for.",
    (s) => s.prefixTier?.slots ?? 0,
  ],
  ["streamserve_prefix_tier_blocks_held", "KV blocks in it.", (s) => s.prefixTier?.held ?? 0],
];

const TIER_COUNTERS: readonly Row<ServiceSnapshot>[] = [
  [
    "streamserve_prefix_tier_read_total",
    "KV blocks that came back from the file.",
    (s) => s.prefixTier?.read ?? 0,
  ],
  ["streamserve_prefix_tier_written_total", "KV blocks that went to it.", (s) => s.prefixTier?.written ?? 0],
  [
    "streamserve_prefix_tier_dropped_total",
    "KV blocks that did not: the disk was too slow, or refused.",
    (s) => s.prefixTier?.dropped ?? 0,
  ],
  [
    "streamserve_prefix_tier_damaged_total",
    "KV blocks found damaged, and not used.",
    (s) => s.prefixTier?.damaged ?? 0,
  ],
];

const LANE_GAUGES: readonly Row<LaneSnapshot>[] = [
  ["streamserve_lane_rows", "Sequences in the lane.", (lane) => lane.rows],
  ["streamserve_lane_queued", "Requests waiting at the lane.", (lane) => lane.queued],
  ["streamserve_lane_kept_rows", "Sequences that a prefill lane decodes itself.", (lane) => lane.keptRows],
  [
    "streamserve_lane_prompt_tokens",
    "Prompt tokens that the lane has yet to compute.",
    (lane) => lane.promptTokens,
  ],
  ["streamserve_lane_steps", "Steps the lane has made.", (lane) => lane.steps],
  ["streamserve_lane_busy_seconds", "Computing time of the lane's steps.", (lane) => lane.busyMs / 1000],
  [
    "streamserve_lane_step_cost_error",
    "Recent error of the lane's predicted step times, as a share of the measured.",
    (lane) => lane.stepCostError,
  ],
  [
    "streamserve_lane_draft_depth",
    "Draft tokens a row and step, a mean over recent steps.",
    (lane) => lane.draftDepth,
  ],
  [
    "streamserve_lane_expected_tokens",
    "Tokens that the lane's steps were expected to draw when their drafts were chosen.",
    (lane) => lane.expectedTokens,
  ],
  ["streamserve_lane_drawn_tokens", "Tokens that these steps drew.", (lane) => lane.drawnTokens],
];

const DRAFTER_COUNTERS: readonly Row<LaneSnapshot["drafters"][number]>[] = [
  ["streamserve_draft_tokens_total", "Draft tokens verified, by drafter.", ({ drafted }) => drafted],
  ["streamserve_held_draft_tokens_total", "Draft tokens that held, by drafter.", ({ held }) => held],
];

function share(part: number, whole: number): number {
  return whole === 0 ? 0 : part / whole;
}
