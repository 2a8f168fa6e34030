import type { Command } from "commander";
import { configSchema } from "#streamserve/config/schema.js";
import { closeEngine, NativeLane, openEngine } from "#streamserve/engine/native-engine.js";
import { openCore } from "#streamserve/gateway/open-core.js";
import { resolveModel } from "#streamserve/model/resolve.js";
import { pairedRatio, summarize } from "#streamserve/report/statistics.js";
import { BenchError } from "../bench-error.js";
import { seededRandom } from "../load/arrivals.js";
import { wholeNumber, withJson } from "../options.js";
import { beginReport, publish } from "../report.js";
import { type Decoded, decodeBare, decodeThroughActors } from "./decode-paths.js";

interface OverheadOptions {
  readonly model: string;
  readonly threads: number;
  readonly tokens: number;
  readonly rounds: number;
  readonly json?: string;
}

const PROMPT_TOKENS = 64;
const KV_TOKENS = 4096;
/** Speculation off: the bare loop has none, and the step itself is to be the same. */
const SPECULATION = { maxDepth: 0 };

export function addOverheadCommand(program: Command): void {
  const command = program
    .command("overhead")
    .description(
      "decode one sequence through the actors and by a bare loop, alternating: what the actors cost",
    )
    .option("--model <name>", "catalogue name or .gguf file", "smollm2-135m-instruct")
    .option("--threads <n>", "compute threads; 0: one a core", wholeNumber(0, 1024), 0)
    .option("--tokens <n>", "output tokens of a run", wholeNumber(16, 1024), 256)
    .option("--rounds <n>", "pairs of runs", wholeNumber(1, 1000), 10);
  withJson(command).action(runOverhead);
}

async function runOverhead(options: OverheadOptions): Promise<void> {
  const finish = beginReport("overhead");
  const path = await resolveModel(options.model);
  const config = configSchema.parse({
    model: path,
    engine: { threads: options.threads, kvTokens: KV_TOKENS },
    speculation: SPECULATION,
  });
  const core = await openCore(config);
  const engine = openEngine({ path, kvTokens: KV_TOKENS, threads: options.threads });
  const lane = new NativeLane({ engine, lane: 0, role: "decode", maxRows: 1, maxBatchTokens: PROMPT_TOKENS });
  try {
    const random = seededRandom(2);
    const bare: number[] = [];
    const actors: number[] = [];
    for (let round = -1; round < options.rounds; round++) {
      const prompt = Uint32Array.from({ length: PROMPT_TOKENS }, () =>
        Math.floor(random() * engine.vocabulary),
      );
      const alone = () => decodeBare(lane, prompt, options.tokens);
      const housed = () => decodeThroughActors(core.service, prompt, options.tokens);
      const pair = round % 2 === 0 ? [alone(), await housed()] : [await housed(), alone()].reverse();
      requireSameTokens(pair[0]!, pair[1]!);
      // The first pair warms up.
      if (round < 0) continue;
      bare.push(pair[0]!.msPerToken);
      actors.push(pair[1]!.msPerToken);
    }
    const ratio = pairedRatio(actors, bare);
    const [bareMs, actorsMs] = [summarize(bare), summarize(actors)];
    publish(
      finish({
        settings: { ...options, json: undefined, instructionSet: engine.instructionSet },
        tables: [
          {
            title: `Decoding ${options.tokens} tokens of one sequence, milliseconds a token`,
            columns: ["", "median", "least", "most"],
            rows: [
              ["bare loop", bareMs.p50, bareMs.min, bareMs.max],
              ["through the actors", actorsMs.p50, actorsMs.min, actorsMs.max],
            ],
          },
          {
            title: `What the actors add, ${ratio.pairs} alternating pairs`,
            columns: ["", "median", "least", "most"],
            rows: [
              ["% of a step", (ratio.median - 1) * 100, (ratio.min - 1) * 100, (ratio.max - 1) * 100],
              ["microseconds, least to least", (actorsMs.min - bareMs.min) * 1000, "", ""],
            ],
          },
        ],
        notes: [],
        results: { bareMsPerToken: bare, actorsMsPerToken: actors, ratio },
        figures: [
          {
            kind: "bars",
            title: "What the actors cost",
            valueLabel: "milliseconds a token",
            groups: ["median", "least", "most"],
            series: [
              { name: "bare loop", values: [bareMs.p50, bareMs.min, bareMs.max] },
              { name: "through the actors", values: [actorsMs.p50, actorsMs.min, actorsMs.max] },
            ],
          },
        ],
      }),
      options.json,
    );
  } finally {
    lane.close();
    closeEngine(engine.id);
    await core.close();
  }
}

function requireSameTokens(a: Decoded, b: Decoded): void {
  if (a.tokens.length !== b.tokens.length || a.tokens.some((id, index) => id !== b.tokens[index])) {
    throw new BenchError("The two paths gave different tokens: the comparison means nothing. This is a bug.");
  }
}
