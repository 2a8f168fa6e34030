import { setTimeout as delay, setImmediate as turn } from "node:timers/promises";
import type { Config } from "../config/schema.js";
import { StreamServeError } from "../errors.js";
import { readRecording } from "../model/recording.js";
import { answersTable, rememberAnswer } from "../policy/known-answers.js";

const KEY = "speculation.knownAnswers";
const NONE = "none";
/** The table is filled so long after it was asked for, in milliseconds: a start, and its first request, come first. */
const AFTER_MS = 500;

export interface KnownAnswers {
  /** For decode lanes: see `knownAnswers`. It fills while they run. */
  readonly table: SharedArrayBuffer;
  /** Keeps no process alive. */
  readonly filled: Promise<void>;
}

/** By file and vocabulary: several runtimes in a process share them. */
const known = new Map<string, KnownAnswers>();

/**
 * Reads the answers that `speculation.knownAnswers` names, for decode lanes to draft from; undefined where none are named.
 * Throws `config_invalid`, with the key in `details.key`, for a file that is no recording, or has tokens that a model of
 * `vocabulary` tokens has not.
 */
export function readAnswers({ speculation }: Config, vocabulary: number): KnownAnswers | undefined {
  const file = speculation.knownAnswers;
  if (file === undefined || file === NONE || speculation.maxDepth === 0) return undefined;
  const name = `${vocabulary} ${file}`;
  const found = known.get(name);
  if (found) return found;
  const answers = read(file);
  for (const answer of answers) {
    const foreign = answer.find((id) => id >= vocabulary);
    if (foreign === undefined) continue;
    throw invalid(`${file} has token ${foreign}, and the model only ${vocabulary} tokens`);
  }
  const table = answersTable(answers.reduce((sum, { length }) => sum + length, 0));
  const one = { table, filled: fill(table, answers) };
  known.set(name, one);
  return one;
}

/** An answer a turn of the event loop: a tenth of a millisecond. */
async function fill(table: SharedArrayBuffer, answers: readonly Uint32Array[]): Promise<void> {
  await delay(AFTER_MS, undefined, { ref: false });
  for (const answer of answers) {
    rememberAnswer(table, answer);
    await turn();
  }
}

function read(file: string): Uint32Array[] {
  try {
    return readRecording(file).requests.map(({ answer }) => answer);
  } catch (error) {
    throw invalid(error instanceof Error ? error.message.replace(/\.$/, "") : String(error), error);
  }
}

function invalid(why: string, cause?: unknown): StreamServeError {
  const sentence = `"${KEY}" can't be used: ${why}. Record answers of this model with \`npm run bench -- answers\`, or leave the line out.`;
  return new StreamServeError("config_invalid", sentence, { key: KEY }, { cause });
}
