import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { Piscina } from "piscina";
import { rangeAt, sharedStrings, stringAt } from "../engine/packed-strings.js";
import { StreamServeError } from "../errors.js";
import { partDone } from "../runtime/start-times.js";
import type { EncodeReply, EncodeTask, EncodeWorkerData } from "./encode-worker.js";
import type { ChatMessage, TextCodec } from "./model.js";
import { readModelMetadata } from "./model-metadata.js";
import { requireSupported } from "./text-model.js";
import { tokenSpelling } from "./token-spelling.js";
import { readVocabulary, type Vocabulary } from "./vocabulary.js";

/** Of each encoding thread's heap: a prompt's words and ids, gone with the prompt. */
const YOUNG_GENERATION_MB = 6;
/**
 * Threads that encode. Each takes some 15 MB, and a thousand tokens take it a millisecond or two: a second one, started
 * when prompts queue up, is for machines with cores and memory to spare.
 */
const MOST_THREADS = availableParallelism() >= 8 ? 2 : 1;
/** Prompts waiting for a thread; one more is refused with `overloaded`. More than any scheduler admits. */
const MOST_QUEUED = 4096;
/**
 * Opens the tokenizer and chat template of a model. Resolves once the first encoding thread is ready.
 * Throws `model_tokenizer_unsupported`, and what reading the header throws.
 */
export async function openTextCodec(path: string): Promise<TextCodec> {
  const metadata = await readModelMetadata(path);
  const vocabulary = shared(readVocabulary(metadata));
  // What a thread would refuse too, but without its code.
  requireSupported(vocabulary);
  const context = metadata.get(`${metadata.get("general.architecture")}.context_length`);
  const pool = encoders({
    vocabulary,
    template: metadata.get("tokenizer.chat_template"),
    contextTokens: typeof context === "number" && context > 0 ? context : undefined,
  });
  try {
    const codec = new PooledTextCodec(vocabulary, pool);
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

type Encoders = Piscina<EncodeTask, EncodeReply>;

function encoders(workerData: EncodeWorkerData): Encoders {
  const pool: Encoders = new Piscina({
    filename: fileURLToPath(new URL("./encode-worker.js", import.meta.url)),
    workerData,
    minThreads: 1,
    maxThreads: MOST_THREADS,
    idleTimeout: 60_000,
    maxQueue: MOST_QUEUED,
    resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
  });
  // A thread that can't read the model: whoever opens it, or encodes with it, is told.
  pool.on("error", () => undefined);
  return pool;
}

class PooledTextCodec implements TextCodec {
  readonly #vocabulary: Vocabulary;
  readonly #pool: Encoders;
  /** Id -> bytes, filled as tokens are met. */
  readonly #bytes: (Uint8Array | undefined)[];
  readonly #special: ReadonlySet<number>;
  #closed = false;

  constructor(vocabulary: Vocabulary, pool: Encoders) {
    this.#vocabulary = vocabulary;
    this.#pool = pool;
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
    if ("error" in reply) {
      throw new StreamServeError(reply.error.code, reply.error.message, reply.error.details);
    }
    return reply.ids;
  }
}
