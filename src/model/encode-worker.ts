import { workerData } from "piscina";
import { readMetadata } from "../engine/metadata.js";
import { type ErrorCode, StreamServeError } from "../errors.js";
import { ChatTemplate } from "./chat-template.js";
import { Encoder } from "./encoder.js";
import type { ChatMessage } from "./model.js";
import { readVocabulary } from "./vocabulary.js";

/**
 * One thread of the tokenizer pool: it has its own copy of the vocabulary, so that encoding, and a template
 * that loops, hold up no other thread.
 */

export interface EncodeWorkerData {
  readonly path: string;
  /** Tokens after which encoding stops with `prompt_too_long`. */
  readonly mostTokens: number;
  readonly contextTokens: number;
}

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

const { path, mostTokens, contextTokens }: EncodeWorkerData = workerData;
const { encoder, template } = open();

/** Apart, so that the header's own lists of strings live no longer than this call. */
function open(): { readonly encoder: Encoder; readonly template: ChatTemplate } {
  const { metadata } = readMetadata(path);
  const vocabulary = readVocabulary(metadata);
  return {
    encoder: new Encoder(vocabulary, { mostTokens, contextTokens }),
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
