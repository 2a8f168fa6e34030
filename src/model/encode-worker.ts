import { workerData } from "piscina";
import { type ErrorCode, StreamServeError } from "../errors.js";
import { ChatTemplate } from "./chat-template.js";
import { Encoder } from "./encoder.js";
import type { ChatMessage } from "./model.js";
import type { Vocabulary } from "./vocabulary.js";

/**
 * One thread of the tokenizer pool, so that encoding, and a template that loops, hold up no other thread. The
 * vocabulary's text is shared by all; the tables over it are each thread's own.
 */

export interface EncodeWorkerData {
  readonly vocabulary: Vocabulary;
  /** What the file has for a chat template. */
  readonly template: unknown;
  /** Where the file names it. */
  readonly contextTokens: number | undefined;
}

/**
 * Encoding stops at so many contexts' worth of tokens. Up to there a prompt that is too long is told its exact
 * length; beyond, a text of megabytes would only keep a thread from others.
 */
const MOST_CONTEXTS = 4;
/** Context assumed, for that limit alone, where the file names none. */
const UNKNOWN_CONTEXT = 131_072;

export type EncodeTask =
  | { readonly text: string; readonly special: boolean }
  | { readonly messages: readonly ChatMessage[] };

/** Errors keep their code across threads only as data. */
export type EncodeReply =
  | { readonly ids: Uint32Array }
  | {
      readonly error: {
        readonly code: ErrorCode;
        readonly message: string;
        readonly details: Readonly<Record<string, number | string>>;
      };
    };

const { vocabulary, template: source, contextTokens = UNKNOWN_CONTEXT }: EncodeWorkerData = workerData;
const opened = openEncoder();
const template = new ChatTemplate(source, vocabulary);

/** A file that is broken is told to whoever encodes: an error of the thread itself would lose its code. */
function openEncoder(): Encoder | StreamServeError {
  try {
    return new Encoder(vocabulary, { mostTokens: MOST_CONTEXTS * contextTokens, contextTokens });
  } catch (error) {
    if (error instanceof StreamServeError) return error;
    throw error;
  }
}

export default function encode(task: EncodeTask): EncodeReply {
  try {
    if (opened instanceof StreamServeError) throw opened;
    // A template writes the beginning-of-sequence token itself where the model wants one.
    const ids =
      "messages" in task
        ? opened.encode(template.render(task.messages), true, false)
        : opened.encode(task.text, task.special, true);
    return { ids };
  } catch (error) {
    if (error instanceof StreamServeError) {
      return { error: { code: error.code, message: error.message, details: error.details } };
    }
    throw error;
  }
}
