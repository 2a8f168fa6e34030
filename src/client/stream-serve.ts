import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type * as z from "zod";
import { checkConfig } from "../config/load.js";
import type { Config, configSchema } from "../config/schema.js";
import { StreamServeError } from "../errors.js";
import type { ServingCore } from "../gateway/core.js";
import { generateText } from "../gateway/generate-text.js";
import type { Generation, ServiceInfo, ServiceSnapshot } from "../gateway/generation.js";
import { Grants } from "../gateway/grants.js";
import { asStreamServeError } from "../gateway/http-errors.js";
import { openCore } from "../gateway/open-core.js";
import { type CheckedOptions, checkChat, checkComplete } from "../gateway/options.js";
import { encodePrompt, OPTION_NAMES, prepare } from "../gateway/prepare.js";
import type { LogEntry } from "../runtime/threads/system.js";
import { GenerationStream } from "./generation-stream.js";
import type { ChatOptions, CompleteOptions, TextGeneration } from "./text-generation.js";

export interface StartOptions {
  /** Catalogue name, or path of a .gguf file or a safetensors directory; the default model if absent. */
  readonly model?: string;
  /** Anything else of the configuration; what is absent has its default. */
  readonly config?: Omit<z.input<typeof configSchema>, "model">;
  /** Told what actors log, and of actors that died; by default nobody is. */
  readonly onLog?: (entry: LogEntry) => void;
}

/** From dist/bundle/ as from dist/client/. */
const PACKAGE = fileURLToPath(new URL("../../", import.meta.url));

/** Threads, the engine and presets are files of the package, beside its code. */
function requirePackage(): void {
  if (existsSync(`${PACKAGE}config/models.yaml`)) return;
  throw new StreamServeError(
    "native_addon_missing",
    `The engine's files are not in ${PACKAGE}, where this code would have them beside it: if a bundler moved it, make "streamserve" an external package there.`,
    { path: PACKAGE },
  );
}

/**
 * A model served inside this process, no server needed:
 * `await using serve = await StreamServe.start({ model })`.
 */
export class StreamServe implements AsyncDisposable {
  readonly #core: ServingCore;
  readonly #server: Config["server"];
  readonly #open = new Set<GenerationStream>();
  #closing: Promise<void> | undefined;

  private constructor(core: ServingCore, server: Config["server"]) {
    this.#core = core;
    this.#server = server;
  }

  /**
   * Opens the model and starts its actors. Several instances may live in a process, each with its own threads.
   * Throws `config_unknown_key`, `config_invalid` and what opening a model throws.
   */
  static async start(options: StartOptions = {}): Promise<StreamServe> {
    if (typeof options !== "object" || options === null) {
      throw new StreamServeError(
        "config_invalid",
        "The options of StreamServe.start are an object, or absent.",
      );
    }
    requirePackage();
    const { model, config, onLog, ...unknown } = options;
    if (config !== undefined && (typeof config !== "object" || config === null || Array.isArray(config))) {
      throw new StreamServeError("config_invalid", '"config" is an object of keys and values, or absent.');
    }
    if (onLog !== undefined && typeof onLog !== "function") {
      throw new StreamServeError("config_invalid", '"onLog" is a function, or absent.');
    }
    const values = { ...config, ...(model === undefined ? {} : { model }), ...unknown };
    const checked = checkConfig([{ values, place: () => undefined }]);
    return new StreamServe(await openCore(checked, onLog), checked.server);
  }

  get info(): ServiceInfo {
    return this.#core.service.info;
  }

  /**
   * Continues a chat. Tokens are made as they are read: at most `server.creditWindowTokens` ahead; a reader that
   * takes none for `server.stallMs` loses the generation (`slow_reader`). Wrong options and whatever goes wrong
   * later are thrown by the iteration, as `StreamServeError`.
   */
  chat(options: ChatOptions): TextGeneration {
    return this.#generate(() => checkChat(options), options?.signal);
  }

  /** Continues raw text or token ids. */
  complete(options: CompleteOptions): TextGeneration {
    return this.#generate(() => checkComplete(options), options?.signal);
  }

  /** Counters and gauges of all parts. Throws `draining` once closed. */
  snapshot(): ServiceSnapshot {
    if (this.#closing !== undefined) throw closed();
    return this.#core.service.snapshot();
  }

  /** Cancels what still runs, stops all threads and frees native memory. Idempotent. Until then the process lives. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #generate(checked: () => CheckedOptions, signal: AbortSignal | undefined): TextGeneration {
    const grants = new Grants(this.#server.creditWindowTokens);
    let generation: Pick<Generation, "cancel" | "grant"> | undefined;
    const stream: GenerationStream = new GenerationStream(
      {
        consumed: (tokens) => grants.taken(tokens),
        cancel: () => {
          this.#open.delete(stream);
          generation?.cancel();
        },
      },
      signal,
    );
    this.#open.add(stream);
    this.#start(stream, checked, (started) => {
      generation = started;
      grants.attach(started);
    }).catch((error: unknown) => {
      this.#open.delete(stream);
      stream.fail(asStreamServeError(error));
    });
    return stream;
  }

  async #start(
    stream: GenerationStream,
    checked: () => CheckedOptions,
    started: (generation: Pick<Generation, "cancel" | "grant">) => void,
  ): Promise<void> {
    if (this.#closing !== undefined) throw closed();
    const { prompt, parameters } = checked();
    const credit = this.#server.creditWindowTokens;
    const ids = await encodePrompt(this.#core, prompt);
    if (stream.settled) return;
    const request = prepare(this.#core, ids, parameters, {
      names: OPTION_NAMES,
      source: "messages" in prompt ? "messages" : "prompt",
      defaultMaxTokens: this.#server.defaultMaxTokens,
      credit,
    });
    started(
      generateText(this.#core, request, {
        delta: (delta) =>
          stream.push({ ...delta, logprobs: delta.logprobs.map(({ offset: _, ...rest }) => rest) }),
        done: (ending) => {
          this.#open.delete(stream);
          stream.end(ending);
        },
        failed: (error) => {
          this.#open.delete(stream);
          stream.fail(error);
        },
      }),
    );
  }

  async #close(): Promise<void> {
    for (const stream of [...this.#open]) stream.cancel();
    await this.#core.close();
  }
}

function closed(): StreamServeError {
  return new StreamServeError("draining", "This instance has been closed.");
}
