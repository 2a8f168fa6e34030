import { type Command, InvalidArgumentError, Option } from "commander";

/** The options that commands which serve a model share. Their values are read in configuration.ts. */

/** Adds what decides on model and engine. */
export function addEngineOptions(command: Command): Command {
  return command
    .option("-m, --model <name>", "catalogue name, or the path of a .gguf file or a safetensors directory")
    .option("-c, --config <preset>", "preset (cpu, cpu-two-pairs), or the path of a YAML file")
    .option("--draft-model <name>", "a smaller model of the same vocabulary that drafts where that pays")
    .option("--threads <n>", "compute threads over all lanes; 0: one a core")
    .option("--pairs <n>", "stream pairs: prefill lane + decode lane")
    .option(
      "--instruction-set <name>",
      "auto, portable, avx2, avx2-vnni, avx512-vnni, neon-dotprod or neon-i8mm",
    )
    .addOption(
      new Option("--set <key=value>", "any key of the configuration, e.g. engine.kvTokens=32768; repeatable")
        .default([], "none")
        .argParser((text: string, before: string[]) => {
          if (!/^[\w.]+=/.test(text)) {
            throw new InvalidArgumentError("write it as key=value.");
          }
          return [...before, text];
        }),
    );
}

/** Adds what decides on the server's address. */
export function addServerOptions(command: Command): Command {
  return command
    .option("-p, --port <n>", "port to listen on; 0: any free one")
    .option("--host <address>", "address to listen on; any but loopback needs --api-key")
    .option("--api-key <key>", "key that clients must send (better: STREAMSERVE_SERVER_API_KEY)");
}
