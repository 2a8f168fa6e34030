import { writeFileSync } from "node:fs";
import type { Command } from "commander";
import { GREEDY, type SequenceHandle } from "#streamserve/engine/engine.js";
import { closeEngine, type EngineInfo, NativeLane, openEngine } from "#streamserve/engine/native-engine.js";
import { stepMs } from "#streamserve/engine/simulated-cost.js";
import { resolveModel } from "#streamserve/model/resolve.js";
import { ascendingFit, median } from "#streamserve/report/statistics.js";
import { readMachine } from "../machine.js";
import { wholeNumber } from "../options.js";
import { type ActorsShare, type BareSteps, measureActors } from "./actors-share.js";

/** Measures what steps of this machine's lanes cost, for the planner: a hardware profile. */
export function addLanesCommand(program: Command): void {
  program
    .command("lanes")
    .description(
      "time steps of every shape on this machine, and write them as a hardware profile for the planner",
    )
    .option("--model <name>", "catalogue name or path", "smollm2-135m-instruct")
    .option("--threads <n>", "compute threads; 0: one a core", wholeNumber(0, 1024), 0)
    .requiredOption("--out <file>", "the profile to write, e.g. config/hardware/mine.yaml")
    .action(measureLanes);
}

interface LanesOptions {
  readonly model: string;
  readonly threads: number;
  readonly out: string;
}

/** New tokens of the steps of one row that are timed: more where kernels change their panels. */
const PREFILL_SIZES = [1, 8, 16, 32, 64, 128, 256, 512];
const DECODE_SIZES = [...Array.from({ length: 32 }, (_, i) => i + 1), 48, 64, 128, 256];
const ROUNDS = 15;
const NEAR = 64;
const MIDDLE = 1024;
const FAR = 4096;
const CHUNK = 128;
const ROWS = 8;
/** Tokens of a step of a prompt, as prefill lanes take them, and how often a prompt is timed, the first times to warm up. */
const PROMPT_STEP = 256;
const PROMPT_ROUNDS = 4;
const WARMING = 1;
/** Shapes that the profile is tried on: rows, context of each, new tokens of each. */
const TRIED = [
  [4, 300, 1],
  [8, 600, 1],
  [24, 200, 1],
  [1, 1000, 9],
  [4, 500, 4],
] as const;

async function measureLanes({ model, threads, out }: LanesOptions): Promise<void> {
  const profile = await measureProfile(model, threads);
  writeFileSync(out, profile);
  process.stdout.write(profile);
}

/** A profile of this machine's lanes and of what actors take of them, as YAML: half a minute. `threads` 0: one a core. */
export async function measureProfile(model: string, threads: number): Promise<string> {
  const path = await resolveModel(model);
  const engine = openEngine({ path, kvTokens: 49_152, threads });
  try {
    const lanes = new LaneTimes(engine);
    const measured = lanes.measure();
    return yaml(model, engine, measured, await measureActors(path, threads, lanes.bare(measured)));
  } finally {
    closeEngine(engine.id);
  }
}

class LaneTimes {
  readonly #prefill: NativeLane;
  readonly #decode: NativeLane;
  /** Prompts timed so far. */
  #prompts = 0;

  constructor(readonly engine: EngineInfo) {
    this.#prefill = new NativeLane({ engine, lane: 0, role: "prefill", maxRows: 16, maxBatchTokens: 512 });
    this.#decode = new NativeLane({ engine, lane: 1, role: "decode", maxRows: 64, maxBatchTokens: 256 });
  }

  measure(): Measured {
    const shapes: readonly Shape[] = [
      ...PREFILL_SIZES.map((tokens): Shape => [this.#prefill, 1, 0, tokens]),
      ...DECODE_SIZES.map((tokens): Shape => [this.#decode, 1, 0, tokens]),
      // Of several rows: the heads of one alone may not divide evenly among the threads.
      [this.#decode, ROWS, NEAR, 1],
      [this.#decode, ROWS, MIDDLE, 1],
      [this.#prefill, 1, 0, CHUNK],
      [this.#prefill, 1, FAR, CHUNK],
      [this.#decode, 1, NEAR, ROWS],
      ...TRIED.map(([rows, context, tokens]): Shape => [this.#decode, rows, context, tokens]),
    ];
    // In turns: a machine's speed changes from second to second, and each shape is to have its share of that.
    const rounds = Array.from({ length: ROUNDS }, () => shapes.map((shape) => this.#timed(...shape)));
    const times = shapes.map((_, i) => median(rounds.map((round) => round[i]!)));
    const points = (sizes: readonly number[], from: number) =>
      ascendingFit(times.slice(from, from + sizes.length)).map((ms, i) => ({ tokens: sizes[i]!, ms }));
    const prefill = points(PREFILL_SIZES, 0);
    const decode = points(DECODE_SIZES, PREFILL_SIZES.length);
    const [near, middle, chunk, far, alone, ...tried] = times.slice(
      PREFILL_SIZES.length + DECODE_SIZES.length,
    ) as [number, number, number, number, number, ...number[]];
    const onceMs = Math.max(0, (middle - near) / (ROWS * (MIDDLE - NEAR)));
    const contextMs = Math.max(0, ((far - chunk) / FAR - onceMs) / (CHUNK - 1));
    // A row of one token both reads its context and attends to it.
    const readMs = Math.max(0, onceMs - contextMs);
    const rowMs = Math.max(0, (near - onceMs * NEAR * (ROWS - 1) - alone) / (ROWS - 1));
    const line = (points: typeof decode) => {
      const [from, to] = [points[0]!, points[points.length - 1]!];
      const tokenMs = (to.ms - from.ms) / (to.tokens - from.tokens);
      return { baseMs: from.ms - tokenMs, tokenMs };
    };
    const cost = (points: typeof decode) => ({
      source: "",
      ...line(points),
      rowMs,
      contextMs,
      readMs,
      points,
    });
    const errors = TRIED.map(([rows, context, tokens], i) => {
      const measured = tried[i]!;
      const attended = rows * tokens * (context + tokens / 2);
      const predicted = stepMs(cost(decode), rows, rows * tokens, attended, rows * context);
      return { rows, context, tokens, measured, off: predicted / measured - 1 };
    });
    return { prefill: cost(prefill), decode: cost(decode), errors };
  }

  /** What was measured, to compare steps with; `slower` and `promptMs` time steps anew. */
  bare({ decode }: Measured): BareSteps {
    return {
      decodeMs: (tokens, context) =>
        stepMs({ source: "", ...decode }, 1, tokens, tokens * (context + tokens / 2), context),
      slower: () => {
        const times = Array.from({ length: ROUNDS }, () => this.#timed(this.#decode, 1, 0, 1));
        return median(times) / decode.points[0]!.ms;
      },
      promptMs: (tokens) =>
        median(Array.from({ length: PROMPT_ROUNDS }, () => this.#prompt(tokens)).slice(WARMING)),
    };
  }

  /** Milliseconds of a step of so many rows with so much context and so many new tokens each. */
  #timed(lane: NativeLane, rows: number, context: number, tokens: number): number {
    const sequences = Array.from({ length: rows }, (_, row) => this.#filled(lane, row, context));
    const batch = sequences.map((sequence) => ({
      sequence,
      tokens: this.#ids(tokens),
      drafts: lane === this.#decode ? tokens - 1 : 0,
      sample: true,
    }));
    const { computeMs } = lane.submit(batch).collect();
    for (const sequence of sequences) lane.release(sequence);
    return computeMs;
  }

  /** Milliseconds of the steps of a prompt that no other begins like. */
  #prompt(tokens: number): number {
    const prompt = Uint32Array.from({ length: tokens }, (_, i) => (i * 7919 + ++this.#prompts * 31) % 40_000);
    const { handle, cachedTokens } = this.#prefill.createSequence(prompt, tokens, GREEDY);
    let ms = 0;
    for (let from = cachedTokens; from < tokens; from += PROMPT_STEP) {
      const chunk = prompt.subarray(from, from + PROMPT_STEP);
      const row = { sequence: handle, tokens: chunk, drafts: 0, sample: from + PROMPT_STEP >= tokens };
      ms += this.#prefill.submit([row]).collect().computeMs;
    }
    this.#prefill.release(handle);
    return ms;
  }

  /** A sequence with so many tokens in its KV; found in the prefix cache when it was made before. */
  #filled(lane: NativeLane, row: number, context: number): SequenceHandle {
    const prompt = Uint32Array.from(
      { length: context + 1 },
      (_, i) => (i * 7919 + row * 104_729 + 1) % 40_000,
    );
    const { handle, cachedTokens } = lane.createSequence(prompt, prompt.length, GREEDY);
    for (let from = cachedTokens; from < context; from += 256) {
      const tokens = prompt.subarray(from, Math.min(context, from + 256));
      lane.submit([{ sequence: handle, tokens, drafts: 0, sample: false }]).collect();
    }
    return handle;
  }

  #ids(count: number): Uint32Array {
    return Uint32Array.from({ length: count }, (_, i) => (i * 31 + 17) % 40_000);
  }
}

/** Lane, rows, context of each, new tokens of each. */
type Shape = readonly [NativeLane, number, number, number];

interface Measured {
  readonly prefill: StepCosts;
  readonly decode: StepCosts;
  readonly errors: readonly {
    rows: number;
    context: number;
    tokens: number;
    measured: number;
    off: number;
  }[];
}

interface StepCosts {
  readonly baseMs: number;
  readonly tokenMs: number;
  readonly rowMs: number;
  readonly contextMs: number;
  readonly readMs: number;
  readonly points: readonly { readonly tokens: number; readonly ms: number }[];
}

const short = (value: number) => Number(value.toPrecision(4));

function yaml(
  model: string,
  engine: EngineInfo,
  { prefill, decode, errors }: Measured,
  { shared, ...actors }: ActorsShare,
): string {
  const { cpu, cores, load } = readMachine();
  const step = (cost: StepCosts) =>
    [
      ...(["baseMs", "tokenMs", "rowMs", "contextMs", "readMs"] as const).map(
        (key) => `  ${key}: ${short(cost[key])}`,
      ),
      "  points:",
      ...cost.points.map(({ tokens, ms }) => `    - { tokens: ${tokens}, ms: ${short(ms)} }`),
    ].join("\n");
  const tried = errors.map(
    ({ rows, context, tokens, measured, off }) =>
      `# ${rows} rows of ${context} tokens of context, ${tokens} new each: ${measured.toFixed(2)} ms, predicted ${off < 0 ? "" : "+"}${(100 * off).toFixed(0)}%`,
  );
  return `# Lanes of one processor that run ${model}: ${cpu}, ${cores} cores, ${engine.threads} threads, ${engine.instructionSet}.
# Measured by \`npm run bench -- lanes\`, load average ${load} at its start. Decode steps that the figures were not made from:
${tried.join("\n")}
name: cpu-${cores}-cores
about: lanes that share ${cores} cores, ${model}
# Steps of prefill lanes: milliseconds. See \`StepCostModel\`.
step:
${step(prefill)}
# Of decode lanes, which draw a token or verify a draft at each new token.
decodeStep:
${step(decode)}
# A decode step beside a step of prefill takes so many times as long, and the other way round: through the actors.
sharedFactor: ${short(shared.decode)}
prefillSharedFactor: ${short(shared.prefill)}
# What actors take of the same cores: requests of the recorded sets served through them one at a time, traced, step by step
# beside what bare lanes take. To a decode step, to each of its new tokens after the first, to a request's first token.
actors:
  stepMs: ${short(actors.stepMs)}
  tokenMs: ${short(actors.tokenMs)}
  requestMs: ${short(actors.requestMs)}
# As config/cpu.yaml: one pool, in which a hand-off moves nothing.
kvTokens: 16384
ownPools: false
contextTokens: ${Math.min(8192, engine.contextTokens)}
`;
}
