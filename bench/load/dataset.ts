import { readFileSync } from "node:fs";
import { BenchError } from "../bench-error.js";

export const DATASETS = ["alpaca", "gsm8k", "humaneval", "sum"] as const;
export type DatasetName = (typeof DATASETS)[number];

/** The sources compile to dist/bench/load, the data stays in bench/data. */
const DATA = new URL("../../../bench/data/", import.meta.url);

/** The user messages of a set, in file order. Throws BenchError for a file that is missing or not of its form. */
export function readDataset(name: DatasetName, directory: URL = DATA): string[] {
  const file = new URL(`${name}.jsonl`, directory);
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch {
    throw new BenchError(`The data set ${name} is missing: ${file.pathname} can't be read.`);
  }
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line, index) => readPrompt(line, `${name}.jsonl line ${index + 1}`));
}

function readPrompt(line: string, where: string): string {
  try {
    const prompt: unknown = (JSON.parse(line) as { turns?: unknown[] }).turns?.[0];
    if (typeof prompt === "string" && prompt !== "") return prompt;
  } catch {
    // Falls through to the one error below.
  }
  throw new BenchError(`${where} has no "turns" with a first message.`);
}
