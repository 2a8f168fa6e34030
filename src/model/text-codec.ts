import { rangeAt, sharedStrings, stringAt } from "../engine/packed-strings.js";
import { StreamServeError } from "../errors.js";
import { partDone } from "../runtime/start-times.js";
import { requireSupported } from "./choose-text-model.js";
import type { EncodeModel, EncodeTask } from "./encode-worker.js";
import { type EncoderPool, MOST_QUEUED, takeEncoders } from "./encoder-pool.js";
import type { ChatMessage, TextCodec } from "./model.js";
import { readModelMetadata } from "./model-metadata.js";
import { tokenSpelling } from "./token-spelling.js";
import { readVocabulary, type Vocabulary } from "./vocabulary.js";

/**
 * Opens the tokenizer and chat template of a model. Resolves once the first encoding thread is ready.
 * Throws `model_tokenizer_unsupported`, and what reading the header throws.
 */
export async function openTextCodec(path: string): Promise<TextCodec> {
  // Its thread starts while this one reads.
  const pool = takeEncoders();
  try {
    const metadata = await readModelMetadata(path);
    const vocabulary = shared(readVocabulary(metadata));
    // What a thread would refuse too, but later.
    requireSupported(vocabulary);
    const context = metadata.get(`${metadata.get("general.architecture")}.context_length`);
    const codec = new PooledTextCodec(pool, {
      vocabulary,
      template: metadata.get("tokenizer.chat_template"),
      contextTokens: typeof context === "number" && context > 0 ? context : undefined,
    });
    await codec.encode("", false);
    partDone("tokenizer");
    return codec;
  } catch (error) {
    await pool.destroy();
    throw error;
  }
}

/** With its long lists where the encoding threads share them. */
function shared(vocabulary: Vocabulary): Vocabulary {
  const tokens = sharedStrings(vocabulary.tokens);
  return vocabulary.kind === "byte-level"
    ? { ...vocabulary, tokens, merges: sharedStrings(vocabulary.merges) }
    : { ...vocabulary, tokens };
}

class PooledTextCodec implements TextCodec {
  readonly #vocabulary: Vocabulary;
  readonly #pool: EncoderPool;
  readonly #model: EncodeModel;
  /** Id -> bytes, filled as tokens are met. */
  readonly #bytes: (Uint8Array | undefined)[];
  readonly #special: ReadonlySet<number>;
  #closed = false;

  constructor(pool: EncoderPool, model: EncodeModel) {
    const { vocabulary } = model;
    this.#vocabulary = vocabulary;
    this.#pool = pool;
    this.#model = model;
    this.#bytes = new Array(vocabulary.tokens.ends.length);
    this.#special = new Set(vocabulary.control.values());
  }

  get vocabulary(): number {
    return this.#vocabulary.tokens.ends.length;
  }

  get stopIds(): readonly number[] {
    return this.#vocabulary.stopIds;
  }

  encode(text: string, special: boolean): Promise<Uint32Array> {
    return this.#run({ text, special });
  }

  encodeChat(messages: readonly ChatMessage[]): Promise<Uint32Array> {
    return this.#run({ messages: messages.map(({ role, content }) => ({ role, content })) });
  }

  tokenBytes(id: number): Uint8Array {
    const known = this.#bytes[id];
    if (known !== undefined) {
      return known;
    }
    const bytes = this.#special.has(id) ? new Uint8Array() : this.#spelled(id);
    this.#bytes[id] = bytes;
    return bytes;
  }

  tokenText(id: number): string {
    return this.#special.has(id)
      ? (stringAt(this.#vocabulary.tokens, id) ?? "")
      : Buffer.from(this.tokenBytes(id)).toString("utf8");
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#pool.destroy();
  }

  #spelled(id: number): Uint8Array {
    if (rangeAt(this.#vocabulary.tokens, id) === undefined) {
      throw new StreamServeError(
        "invalid_parameter",
        `Token ${id} is outside a vocabulary of ${this.vocabulary}.`,
      );
    }
    return tokenSpelling(this.#vocabulary, id);
  }

  async #run(task: EncodeTask): Promise<Uint32Array> {
    if (this.#closed) {
      throw new StreamServeError("draining", "The model is being closed: no more text can be encoded.");
    }
    if (this.#pool.queueSize >= MOST_QUEUED) {
      throw new StreamServeError(
        "overloaded",
        `${MOST_QUEUED} prompts are waiting to be encoded: try again later.`,
      );
    }
    const reply = await this.#pool.run(task).catch((error: unknown) => {
      if (this.#closed) {
        throw new StreamServeError("draining", "The model was closed while the text was being encoded.");
      }
      const why = error instanceof Error ? error.message : String(error);
      throw new StreamServeError("internal", `A tokenizer thread failed: ${why}.`, {}, { cause: error });
    });
    if ("lacksModel" in reply) return this.#run({ ...task, model: this.#model });
    if ("error" in reply) {
      throw new StreamServeError(reply.error.code, reply.error.message, reply.error.details);
    }
    return reply.ids;
  }
}
