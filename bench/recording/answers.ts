import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import type { Command } from "commander";
import { startOver } from "#streamserve/actors/start.js";
import { configSchema } from "#streamserve/config/schema.js";
import { closeEngine, openEngine } from "#streamserve/engine/native-engine.js";
import { encodeRecording } from "#streamserve/model/recording.js";
import { resolveModel } from "#streamserve/model/resolve.js";
import { openTextCodec } from "#streamserve/model/text-codec.js";
import { BenchError } from "../bench-error.js";
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
    .description(
      "record the model's greedy answers to the four prompt sets, for the planner's workloads, or to prompts of a file, for drafts",
    )
    .option("--model <name>", "catalogue name or path", "smollm2-135m-instruct")
    .option("--max-tokens <n>", "output tokens of an answer, at most", wholeNumber(1, 4096), 512)
    .option("--prompts <file>", "prompts of your own: a file of JSON strings, one a line")
    .option("--out <directory>", "where the files go", "config/recorded")
    .action(record);
}

/** Prompts whose answers go into the file `name`. */
interface PromptSet {
  readonly set: string;
  readonly name: string;
  readonly texts: readonly string[];
}

function sets(): PromptSet[] {
  return DATASETS.map((set) => ({ set, name: set, texts: readDataset(set) }));
}

/** Throws BenchError for a line that is no JSON string. */
function ownSet(file: string, model: string): PromptSet {
  const lines = readFileSync(file, "utf8").split("\n");
  const texts = lines.flatMap((line, i) => (line === "" ? [] : [promptOf(line, `${file} line ${i + 1}`)]));
  return { set: basename(file, ".jsonl"), name: basename(model, ".gguf"), texts };
}

function promptOf(line: string, where: string): string {
  try {
    const prompt: unknown = JSON.parse(line);
    if (typeof prompt === "string" && prompt !== "") return prompt;
  } catch {
    // Falls through to the one error below.
  }
  throw new BenchError(`${where} is no text in JSON.`);
}

interface AnswersOptions {
  readonly model: string;
  readonly maxTokens: number;
  readonly prompts?: string;
  readonly out: string;
}

async function record({ model, maxTokens, prompts: file, out }: AnswersOptions): Promise<void> {
  const path = await resolveModel(model);
  const codec = await openTextCodec(path);
  const engine = openEngine({ path, kvTokens: KV_TOKENS });
  const config = configSchema.parse({ model, scheduler: { interactive: { ttftMs: 0 } } });
  const runtime = await startOver(config, engine, 0);
  mkdirSync(out, { recursive: true });
  try {
    for (const { set, name, texts } of file === undefined ? sets() : [ownSet(file, model)]) {
      const encoded = texts.map((content) => codec.encodeChat([{ role: "user", content }]));
      const prompts = await Promise.all(encoded);
      const answers = await answerAll(runtime.service, prompts, codec.stopIds, maxTokens, STREAMS);
      const recording = encodeRecording({
        set,
        model,
        command: `npm run bench -- answers --model ${model} --max-tokens ${maxTokens}${file === undefined ? "" : ` --prompts ${file} --out ${out}`}`,
        maxTokens,
        requests: prompts.map((prompt, i) => ({ prompt, answer: answers[i]! })),
      });
      writeFileSync(join(out, `${name}.json`), `${JSON.stringify(recording, null, 1)}\n`);
      console.log(`${join(out, `${name}.json`)}: ${prompts.length} answers`);
    }
  } finally {
    await runtime.stop();
    closeEngine(engine.id);
    await codec.close();
  }
}
