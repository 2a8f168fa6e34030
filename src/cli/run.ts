import { createInterface, type Interface } from "node:readline";
import { withPlace } from "../config/load.js";
import { type ChatTurn, StreamServe, StreamServeError, type TextGeneration } from "../index.js";
import { configOf, type ServingOptions } from "./configuration.js";
import { explain } from "./failure.js";
import { fetchShown } from "./pull.js";

/** `streamserve run`: one answer, or a chat, in the terminal; no server. */

export interface RunOptions extends ServingOptions {
  readonly system?: string;
  readonly maxTokens?: number;
  readonly temperature?: number;
  readonly seed?: number;
  readonly raw?: boolean;
  readonly stats?: boolean;
}

/** Answers `prompt`, or standard input when it is not a terminal; with neither, chats until /exit or Ctrl-D. */
export async function run(prompt: string | undefined, options: RunOptions): Promise<void> {
  const whole = configOf(options);
  const { model, ...config } = whole;
  const { maxBodyBytes } = config.server;
  const asked = prompt ?? (process.stdin.isTTY ? undefined : await standardInput(maxBodyBytes));
  if (asked !== undefined && asked.trim() === "") {
    throw new StreamServeError("empty_prompt", "There is nothing to answer: give a prompt with text in it.");
  }
  await fetchShown(model);
  const serve = await StreamServe.start({ model, config }).catch((error: unknown) => {
    throw withPlace(error, whole);
  });
  try {
    await (asked === undefined ? chat(serve, options) : answerOnce(serve, asked, options));
  } finally {
    await serve.close();
  }
}

async function answerOnce(serve: StreamServe, prompt: string, options: RunOptions): Promise<void> {
  const aborted = new AbortController();
  const abort = () => aborted.abort();
  process.once("SIGINT", abort);
  const settings = { ...sampling(options), signal: aborted.signal };
  try {
    await print(
      options.raw
        ? serve.complete({ ...settings, prompt })
        : serve.chat({ ...settings, messages: [...opening(options), { role: "user", content: prompt }] }),
      options,
    );
  } finally {
    process.off("SIGINT", abort);
  }
}

async function chat(serve: StreamServe, options: RunOptions): Promise<void> {
  process.stderr.write(
    `Chatting with ${serve.info.model}. /clear forgets, /exit ends, Ctrl-C stops an answer.\n`,
  );
  const lines = createInterface({ input: process.stdin, output: process.stdout, prompt: "> " });
  let answering: AbortController | undefined;
  lines.on("SIGINT", () => (answering === undefined ? lines.close() : answering.abort()));
  let messages = opening(options);
  for await (const line of prompted(lines)) {
    if (line === "/exit") {
      break;
    }
    if (line === "/clear") {
      messages = opening(options);
    } else if (line.startsWith("/")) {
      process.stderr.write("There are /clear and /exit.\n");
    } else if (line !== "") {
      const asked: readonly ChatTurn[] = [...messages, { role: "user", content: line }];
      answering = new AbortController();
      const answer = await answered(serve, asked, answering.signal, options);
      answering = undefined;
      if (answer !== undefined) {
        messages = [...asked, { role: "assistant", content: answer }];
      }
    }
  }
  lines.close();
}

/** The lines typed, each after a prompt. */
async function* prompted(lines: Interface): AsyncGenerator<string> {
  lines.prompt();
  for await (const line of lines) {
    yield line.trim();
    lines.prompt();
  }
}

/** One answer of a chat; undefined if it failed, which is told. A stopped answer stands as far as it came. */
async function answered(
  serve: StreamServe,
  messages: readonly ChatTurn[],
  signal: AbortSignal,
  options: RunOptions,
): Promise<string | undefined> {
  const told: string[] = [];
  try {
    await print(serve.chat({ ...sampling(options), messages, signal }), options, told);
    return told.join("");
  } catch (error) {
    if (error instanceof StreamServeError && error.code === "cancelled") {
      process.stdout.write("\n");
      return told.join("");
    }
    explain(error);
    process.exitCode = 0;
    return undefined;
  }
}

/** Streams a generation to standard output, and its figures to standard error if they are asked for. */
async function print(generation: TextGeneration, options: RunOptions, told: string[] = []): Promise<void> {
  for await (const { text } of generation) {
    told.push(text);
    process.stdout.write(text);
  }
  process.stdout.write("\n");
  const ending = generation.ending;
  if (options.stats && ending !== undefined) {
    const { usage, timings } = ending;
    const decodeMs = timings.totalMs - timings.firstTokenMs;
    const speed = usage.outputTokens > 1 ? ((usage.outputTokens - 1) / decodeMs) * 1000 : 0;
    process.stderr.write(
      `${usage.promptTokens} prompt tokens (${usage.cachedTokens} cached), ${usage.outputTokens} output tokens; ` +
        `first after ${timings.firstTokenMs.toFixed(0)} ms, then ${speed.toFixed(1)} tokens/s; ` +
        `${usage.acceptedTokens} of ${usage.draftTokens} drafts held\n`,
    );
  }
}

function opening({ system }: RunOptions): readonly ChatTurn[] {
  return system === undefined ? [] : [{ role: "system", content: system }];
}

function sampling({ maxTokens, temperature, seed }: RunOptions) {
  return {
    ...(maxTokens === undefined ? {} : { maxTokens }),
    ...(temperature === undefined ? {} : { temperature }),
    ...(seed === undefined ? {} : { seed }),
  };
}

/** All of standard input. Throws `body_too_large` for endless input, and `invalid_utf8`. */
async function standardInput(mostBytes: number): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of process.stdin) {
    bytes += chunk.length;
    if (bytes > mostBytes) {
      throw new StreamServeError(
        "body_too_large",
        `Standard input is longer than ${mostBytes} bytes (server.maxBodyBytes): send less.`,
        { maxBodyBytes: mostBytes },
      );
    }
    chunks.push(chunk);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(chunks));
  } catch {
    throw new StreamServeError("invalid_utf8", "Standard input holds bytes that are not UTF-8: convert it.");
  }
}
