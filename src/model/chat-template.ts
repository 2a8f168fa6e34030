import { Template } from "@huggingface/jinja";
import { stringAt } from "../engine/packed-strings.js";
import { StreamServeError } from "../errors.js";
import type { ChatMessage } from "./model.js";
import type { Vocabulary } from "./vocabulary.js";

/** The chat template of a model file (Jinja, `tokenizer.chat_template`): messages to the text the model expects. */
export class ChatTemplate {
  readonly #template: Template | StreamServeError;
  readonly #bos: string;
  readonly #eos: string;

  /** `source`: what the file has for a template. A file without one, or with a broken one, still serves raw text: `render` then throws. */
  constructor(source: unknown, vocabulary: Pick<Vocabulary, "tokens" | "bosId" | "eosId">) {
    this.#template =
      typeof source === "string"
        ? parsed(source)
        : new StreamServeError(
            "invalid_request",
            "This model has no chat template: use a completion with a plain prompt instead.",
          );
    this.#bos = stringAt(vocabulary.tokens, vocabulary.bosId ?? -1) ?? "";
    this.#eos = stringAt(vocabulary.tokens, vocabulary.eosId ?? -1) ?? "";
  }

  /**
   * The prompt text, ending where the assistant's answer begins. Throws `invalid_request` for messages that the
   * template refuses, or when the file has no usable template.
   */
  render(messages: readonly ChatMessage[]): string {
    if (this.#template instanceof StreamServeError) {
      throw this.#template;
    }
    if (messages.length === 0) {
      throw new StreamServeError("invalid_request", "messages is empty: send at least one message.");
    }
    try {
      return this.#template.render({
        messages,
        add_generation_prompt: true,
        bos_token: this.#bos,
        eos_token: this.#eos,
      });
    } catch (error) {
      throw new StreamServeError(
        "invalid_request",
        `The model's chat template refuses these messages: ${reason(error)}.`,
        {},
        { cause: error },
      );
    }
  }
}

function parsed(source: string): Template | StreamServeError {
  try {
    return new Template(source);
  } catch (error) {
    return new StreamServeError(
      "invalid_request",
      `The model's chat template can't be read (${reason(error)}): use a completion with a plain prompt instead.`,
      {},
      { cause: error },
    );
  }
}

function reason(error: unknown): string {
  const [first = ""] = (error instanceof Error ? error.message : String(error)).split("\n");
  return first.replace(/\.$/, "");
}
