import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { StreamServeError } from "../errors.js";
import { type Summary, summarize } from "../report/statistics.js";

/**
 * What a real model answered to a set of prompts, token by token. A simulated request says what was recorded, so that
 * lengths are real, and the real drafters, which look at the tokens alone, foretell as much of it as they would of
 * the model.
 */
export interface Recording {
  readonly set: string;
  readonly model: string;
  /** The command that makes it anew. */
  readonly command: string;
  /** Output tokens at which an answer was cut. */
  readonly maxTokens: number;
  readonly requests: readonly RecordedRequest[];
}

export interface RecordedRequest {
  readonly prompt: Uint32Array;
  /** Its stop id included, unless it was cut. */
  readonly answer: Uint32Array;
}

/** The sets that come with StreamServe: config/recorded. */
export const RECORDED_SETS = ["alpaca", "gsm8k", "humaneval", "sum"] as const;

const lengths = z.array(z.number().int().positive()).min(1);
const fileSchema = z.object({
  set: z.string(),
  model: z.string(),
  command: z.string(),
  maxTokens: z.number().int().positive(),
  /** For people: what the lengths below are like. */
  statistics: z.unknown(),
  promptLengths: lengths,
  answerLengths: lengths,
  /** Ids one after another, 16 bits each, little-endian, in base64. */
  prompts: z.base64(),
  answers: z.base64(),
});

export type RecordingFile = z.output<typeof fileSchema>;

/** Its form on disk. Ids must be below 65,536. */
export function encodeRecording({ requests, ...facts }: Recording): RecordingFile {
  const prompts = requests.map(({ prompt }) => prompt);
  const answers = requests.map(({ answer }) => answer);
  return {
    ...facts,
    statistics: { promptTokens: lengthsOf(prompts), answerTokens: lengthsOf(answers) },
    promptLengths: prompts.map(({ length }) => length),
    answerLengths: answers.map(({ length }) => length),
    prompts: packed(prompts),
    answers: packed(answers),
  };
}

/** Reads one of the sets above, or the file at a path. Throws `config_invalid`. */
export function readRecording(nameOrPath: string): Recording {
  const path = /^[\w-]+$/.test(nameOrPath)
    ? fileURLToPath(new URL(`../../config/recorded/${nameOrPath}.json`, import.meta.url))
    : nameOrPath;
  let data: unknown;
  try {
    data = JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw invalid(`The recorded set ${nameOrPath} can't be read: ${why}.`);
  }
  return decodeRecording(data, path);
}

/** Checks plain data of the form above; throws `config_invalid` that names `from`. */
export function decodeRecording(data: unknown, from: string): Recording {
  const parsed = fileSchema.safeParse(data);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw invalid(`${from} is no recorded set: "${issue?.path.join(".")}": ${issue?.message}.`);
  }
  const { set, model, command, maxTokens, promptLengths, answerLengths, prompts, answers } = parsed.data;
  const asked = unpacked(prompts, promptLengths);
  const answered = unpacked(answers, answerLengths);
  if (!asked || !answered || asked.length !== answered.length) {
    throw invalid(`${from} is no recorded set: its lengths and its tokens differ in number.`);
  }
  const requests = asked.map((prompt, i) => ({ prompt, answer: answered[i]! }));
  return { set, model, command, maxTokens, requests };
}

function lengthsOf(texts: readonly Uint32Array[]): Omit<Summary, "count"> {
  const { count: _, ...summary } = summarize(texts.map(({ length }) => length));
  return summary;
}

function packed(texts: readonly Uint32Array[]): string {
  const ids = texts.flatMap((text) => [...text]);
  const bytes = Buffer.alloc(2 * ids.length);
  for (const [at, id] of ids.entries()) bytes.writeUInt16LE(id, 2 * at);
  return bytes.toString("base64");
}

/** Undefined unless there are exactly as many ids as the lengths say. */
function unpacked(base64: string, lengths: readonly number[]): Uint32Array[] | undefined {
  const bytes = Buffer.from(base64, "base64");
  let at = 0;
  const texts: Uint32Array[] = [];
  for (const length of lengths) {
    if (at + 2 * length > bytes.length) return undefined;
    const text = new Uint32Array(length);
    for (let i = 0; i < length; i++) text[i] = bytes.readUInt16LE(at + 2 * i);
    texts.push(text);
    at += 2 * length;
  }
  return at === bytes.length ? texts : undefined;
}

function invalid(message: string): StreamServeError {
  return new StreamServeError("config_invalid", message);
}
