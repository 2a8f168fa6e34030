import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import { startOver } from "#streamserve/actors/start.js";
import { configSchema } from "#streamserve/config/schema.js";
import { closeEngine, openEngine } from "#streamserve/engine/native-engine.js";
import { resolveModel } from "#streamserve/model/resolve.js";
import { openTextCodec } from "#streamserve/model/text-codec.js";
import { encodeRecording } from "#streamserve/simulate/serving/recording.js";
import { DATASETS, readDataset } from "../load/dataset.js";
import { wholeNumber } from "../options.js";
import { answerAll } from "./answer-all.js";

/** Streams side by side: fast, and the answers do not depend on it. */
const STREAMS = 8;
const KV_TOKENS = 32_768;

/** Records what the model answers to the prompts of the four sets: what simulated requests say. */
export function addAnswersCommand(program: Command): void {
  program
    .command("answers")
    .description("record the model's greedy answers to the four prompt sets, for the planner's workloads")
    .option("--model <name>", "catalogue name or path", "smollm2-135m-instruct")
    .option("--max-tokens <n>", "output tokens of an answer, at most", wholeNumber(1, 4096), 512)
    .option("--out <directory>", "where the files go", "config/recorded")
    .action(record);
}

interface AnswersOptions {
  readonly model: string;
  readonly maxTokens: number;
  readonly out: string;
}

async function record({ model, maxTokens, out }: AnswersOptions): Promise<void> {
  const path = await resolveModel(model);
  const codec = await openTextCodec(path);
  const engine = openEngine({ path, kvTokens: KV_TOKENS });
  const config = configSchema.parse({ model, scheduler: { interactive: { ttftMs: 0 } } });
  const runtime = await startOver(config, engine, 0);
  mkdirSync(out, { recursive: true });
  try {
    for (const set of DATASETS) {
      const encoded = readDataset(set).map((content) => codec.encodeChat([{ role: "user", content }]));
      const prompts = await Promise.all(encoded);
      const answers = await answerAll(runtime.service, prompts, codec.stopIds, maxTokens, STREAMS);
      const recording = encodeRecording({
        set,
        model,
        command: `npm run bench -- answers --model ${model} --max-tokens ${maxTokens}`,
        maxTokens,
        requests: prompts.map((prompt, i) => ({ prompt, answer: answers[i]! })),
      });
      writeFileSync(join(out, `${set}.json`), `${JSON.stringify(recording, null, 1)}\n`);
      console.log(`${join(out, `${set}.json`)}: ${prompts.length} answers`);
    }
  } finally {
    await runtime.stop();
    closeEngine(engine.id);
    await codec.close();
  }
}
