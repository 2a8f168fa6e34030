import { type ErrorCode, StreamServeError } from "../errors.js";
import { ChatTemplate } from "./chat-template.js";
import { Encoder } from "./encoder.js";
import type { ChatMessage } from "./model.js";
import type { Vocabulary } from "./vocabulary.js";

/**
 * One thread of the tokenizer pool, so that encoding, and a template that loops, hold up no other thread. The
 * vocabulary's text is shared by all; the tables over it are each thread's own.
 */

export interface EncodeModel {
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

/** With `model` for a thread that has none yet: it was started before there was one. */
export type EncodeTask = { readonly model?: EncodeModel } & (
  | { readonly text: string; readonly special: boolean }
  | { readonly messages: readonly ChatMessage[] }
);

/** Errors keep their code across threads only as data. */
export type EncodeReply =
  | { readonly ids: Uint32Array }
  /** The task is to be sent again, with the model. */
  | { readonly lacksModel: true }
  | {
      readonly error: {
        readonly code: ErrorCode;
        readonly message: string;
        readonly details: Readonly<Record<string, number | string>>;
      };
    };

interface Opened {
  readonly encoder: Encoder;
  readonly template: ChatTemplate;
}

let opened: Opened | undefined;

export default function encode(task: EncodeTask): EncodeReply {
  try {
    if (task.model) opened ??= open(task.model);
    if (!opened) return { lacksModel: true };
    const { encoder, template } = opened;
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

function open({ vocabulary, template, contextTokens = UNKNOWN_CONTEXT }: EncodeModel): Opened {
  return {
    encoder: new Encoder(vocabulary, { mostTokens: MOST_CONTEXTS * contextTokens, contextTokens }),
    template: new ChatTemplate(template, vocabulary),
  };
}
