#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { Command, CommanderError, InvalidArgumentError } from "commander";
import { startThreadsAhead } from "../actors/threads-ahead.js";
import { explain, MISUSED } from "./failure.js";
import { addEngineOptions, addServerOptions } from "./options.js";

/** The terminal's door. Each command imports what it needs when it runs, so that `--help` is quick. */

const program = new Command("streamserve")
  .description("Serves language models as token streams, from this machine.")
  .version(version())
  .showHelpAfterError("(add --help to see the options)")
  .enablePositionalOptions()
  .exitOverride()
  .addHelpText(
    "after",
    `
Examples:
  $ streamserve serve                        serve the default model on http://127.0.0.1:8080
  $ streamserve run "Why is the sky blue?"   one answer, no server
  $ streamserve run                          a chat
  $ streamserve help serve                   the options of a command

Any key of the configuration can be set by a STREAMSERVE_<SECTION>_<KEY> variable, e.g. STREAMSERVE_SERVER_PORT.`,
  );

addServerOptions(addEngineOptions(program.command("serve")))
  .description("serve a model over HTTP (OpenAI's API) and WebSocket")
  .option("--timings", "print when each part of the start was done, on standard error")
  .addHelpText(
    "after",
    `
Examples:
  $ streamserve serve
  $ streamserve serve --port 9000 --model ./my-model.gguf
  $ streamserve serve --config cpu-two-pairs --set engine.kvTokens=32768
  $ STREAMSERVE_SERVER_API_KEY=secret streamserve serve --host 0.0.0.0`,
  )
  .action(async (options) => {
    await startAhead();
    const { serve } = await import("./serve.js");
    await serve(options);
  });

addEngineOptions(program.command("run"))
  .description("answer a prompt, or chat, in the terminal")
  .argument("[prompt]", "what to answer; without it, standard input, or a chat on a terminal")
  .option("--system <text>", "system message")
  .option("--max-tokens <n>", "output tokens at most", number)
  .option("--temperature <t>", "0: always the likeliest token; 1: the model's own distribution", number)
  .option("--seed <n>", "the same seed and prompt give the same answer", number)
  .option("--raw", "continue the prompt as plain text, without the chat template")
  .option("--stats", "print tokens and timings after each answer, on standard error")
  .addHelpText(
    "after",
    `
Examples:
  $ streamserve run "Write a haiku about rivers." --temperature 0 --stats
  $ git log -5 | streamserve run --system "Summarise in one sentence."
  $ streamserve run --raw "Once upon a time" --max-tokens 64 --seed 7
  $ streamserve run`,
  )
  .action(async (prompt: string | undefined, options) => {
    await startAhead();
    const { run } = await import("./run.js");
    await run(prompt, options);
  });

program
  .command("pull")
  .description("fetch a model ahead of its first use")
  .argument("[model]", "catalogue name; without it, the configured model")
  .option("-m, --model <name>", "the same as the argument")
  .option("-c, --config <preset>", "preset or YAML file whose model to fetch")
  .option("--list", "list the models known by name instead")
  .addHelpText(
    "after",
    `
Examples:
  $ streamserve pull
  $ streamserve pull smollm2-135m-instruct
  $ streamserve pull --list
  $ STREAMSERVE_MODELS=/data/models streamserve pull`,
  )
  .action(async (model: string | undefined, options: { model?: string; config?: string; list?: boolean }) => {
    const { listModels, pull } = await import("./pull.js");
    await (options.list ? listModels() : pull(model ?? options.model, options.config));
  });

program
  .command("quantize")
  .description("write a model as a GGUF file of fewer bits")
  .argument(
    "<source>",
    "directory of a safetensors model, .safetensors file, or GGUF file in F32, F16 or BF16",
  )
  .argument("<out>", "the GGUF file to write")
  .requiredOption("-f, --format <name>", "q4_0, q4_1, q8_0, f16, bf16 or f32")
  .option("--head <name>", "format of embeddings and head (default: q8_0 where the format has fewer bits)")
  .option("--threads <n>", "threads that search; by default one a core", number)
  .option("--requantize", "round a model again that is rounded already")
  .option("--force", "replace the file if it is there")
  .addHelpText(
    "after",
    `
Examples:
  $ streamserve quantize ./SmolLM2-135M-Instruct smollm2.q4_1.gguf --format q4_1
  $ streamserve quantize model.bf16.gguf model.q8_0.gguf --format q8_0`,
  )
  .action(async (source: string, out: string, options) => {
    const { quantize } = await import("./quantize.js");
    await quantize(source, out, options);
  });

forwarded(
  program.command("bench"),
  "measure this server, its engine, or any OpenAI-compatible server",
).action(async (args: readonly string[]) => {
  const { bench } = await import("./forward.js");
  await bench(args);
});

forwarded(
  program.command("simulate"),
  "run the actors under a virtual clock with injected faults, and check that nothing goes wrong",
).action(async (args: readonly string[]) => {
  const { simulate } = await import("./forward.js");
  await simulate(args);
});

process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  // `| head` has read enough: nothing is wrong, and nobody is left to write to.
  if (error.code !== "EPIPE") explain(new Error(`standard output can't be written: ${error.message}`));
  process.exit();
});

program.parseAsync().catch((error: unknown) => {
  if (error instanceof CommanderError) {
    // Commander has printed the message or the help that was asked for.
    process.exitCode = error.exitCode === 0 ? 0 : MISUSED;
  } else {
    explain(error);
  }
});

/** Starts the threads that every model needs, before anything else is loaded or read. */
async function startAhead(): Promise<void> {
  startThreadsAhead();
  const { startEncodersAhead } = await import("../model/encoder-pool.js");
  startEncodersAhead();
}

/** A command that takes its arguments, `--help` included, as they are. */
function forwarded(command: Command, description: string): Command {
  return command
    .description(`${description} (--help: its own options)`)
    .argument("[args...]")
    .helpOption(false)
    .allowUnknownOption()
    .passThroughOptions();
}

function number(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value)) {
    throw new InvalidArgumentError("it must be a number.");
  }
  return value;
}

function version(): string {
  const file = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  const content: { version: string } = JSON.parse(file);
  return content.version;
}
