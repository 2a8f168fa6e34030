import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { Piscina } from "piscina";
import { readMetadata } from "../engine/metadata.js";
import { StreamServeError } from "../errors.js";
import type { EncodeReply, EncodeTask, EncodeWorkerData } from "./encode-worker.js";
import type { ChatMessage, TextCodec } from "./model.js";
import { requireSupported } from "./text-model.js";
import { tokenSpelling } from "./token-spelling.js";
import { readVocabulary, type Vocabulary } from "./vocabulary.js";

/** Of each encoding thread's heap: a prompt's words and ids, gone with the prompt. */
const YOUNG_GENERATION_MB = 6;
/**
 * Threads that encode. Each holds the vocabulary in some 35 MB, and a thousand tokens take it a millisecond or
 * two: a second one, started when prompts queue up, is for machines with cores and memory to spare.
 */
const MOST_THREADS = availableParallelism() >= 8 ? 2 : 1;
/** Prompts waiting for a thread; one more is refused with `overloaded`. More than any scheduler admits. */
const MOST_QUEUED = 4096;
/**
 * Encoding stops at so many contexts' worth of tokens. Up to there a prompt that is too long is told its exact
 * length; beyond, a text of megabytes would only keep a thread from others.
 */
const MOST_CONTEXTS = 4;
/** Context assumed, for that limit alone, where the file names none. */
const UNKNOWN_CONTEXT = 131_072;

/**
 * Opens the tokenizer and chat template of a GGUF file. Resolves once the first encoding thread is ready.
 * Throws `model_tokenizer_unsupported`, and what reading the header throws.
 */
export async function openTextCodec(path: string): Promise<TextCodec> {
  const { metadata } = readMetadata(path);
  const vocabulary = readVocabulary(metadata);
  // What a thread would refuse, refused here: with its code, before any thread starts.
  requireSupported(vocabulary);
  const context = metadata.get(`${metadata.get("general.architecture")}.context_length`);
  const contextTokens = typeof context === "number" && context > 0 ? context : UNKNOWN_CONTEXT;
  const codec = new GgufTextCodec(vocabulary, {
    path,
    contextTokens,
    mostTokens: MOST_CONTEXTS * contextTokens,
  });
  try {
    await codec.encode("", false);
  } catch (error) {
    await codec.close();
    throw error;
  }
  return codec;
}

class GgufTextCodec implements TextCodec {
  readonly #vocabulary: Vocabulary;
  readonly #pool: Piscina<EncodeTask, EncodeReply>;
  /** Id -> bytes, filled as tokens are met. */
  readonly #bytes: (Uint8Array | undefined)[];
  readonly #special: ReadonlySet<number>;
  #closed = false;

  constructor(vocabulary: Vocabulary, workerData: EncodeWorkerData) {
    // Only encoding needs the merges.
    this.#vocabulary = vocabulary.kind === "byte-level" ? { ...vocabulary, merges: [] } : vocabulary;
    this.#bytes = new Array(vocabulary.tokens.length);
    this.#special = new Set(vocabulary.control.values());
    this.#pool = new Piscina({
      filename: fileURLToPath(new URL("./encode-worker.js", import.meta.url)),
      workerData,
      minThreads: 1,
      maxThreads: MOST_THREADS,
      idleTimeout: 60_000,
      maxQueue: MOST_QUEUED,
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
    });
  }

  get vocabulary(): number {
    return this.#vocabulary.tokens.length;
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
      ? (this.#vocabulary.tokens[id] ?? "")
      : Buffer.from(this.tokenBytes(id)).toString("utf8");
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#pool.destroy();
  }

  #spelled(id: number): Uint8Array {
    if (this.#vocabulary.tokens[id] === undefined) {
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
