import { workerData } from "piscina";
import { type ErrorCode, StreamServeError } from "../errors.js";
import { ChatTemplate } from "./chat-template.js";
import { Encoder } from "./encoder.js";
import type { ChatMessage } from "./model.js";
import { readModelMetadata } from "./model-metadata.js";
import { readVocabulary } from "./vocabulary.js";

/**
 * One thread of the tokenizer pool: it has its own copy of the vocabulary, so that encoding, and a template
 * that loops, hold up no other thread.
 */

export interface EncodeWorkerData {
  readonly path: string;
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

const { path }: EncodeWorkerData = workerData;
const { encoder, template } = await open();

/** Apart, so that the header's own lists of strings live no longer than this call. */
async function open(): Promise<{ readonly encoder: Encoder; readonly template: ChatTemplate }> {
  const metadata = await readModelMetadata(path);
  const vocabulary = readVocabulary(metadata);
  const context = metadata.get(`${metadata.get("general.architecture")}.context_length`);
  const contextTokens = typeof context === "number" && context > 0 ? context : UNKNOWN_CONTEXT;
  return {
    encoder: new Encoder(vocabulary, { mostTokens: MOST_CONTEXTS * contextTokens, contextTokens }),
    template: new ChatTemplate(metadata, vocabulary),
  };
}

export default function encode(task: EncodeTask): EncodeReply {
  try {
    // A template writes the beginning-of-sequence token itself where the model wants one.
    const ids =
      "messages" in task
        ? encoder.encode(template.render(task.messages), true, false)
        : encoder.encode(task.text, task.special, true);
    return { ids };
  } catch (error) {
    if (error instanceof StreamServeError) {
      return { error: { code: error.code, message: error.message, details: error.details } };
    }
    throw error;
  }
}
