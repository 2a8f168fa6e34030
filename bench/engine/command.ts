import { availableParallelism } from "node:os";
import type { Command } from "commander";
import { higherCeilings, measureMachine } from "../ceilings.js";
import { choice, chosenByName, wholeNumber, withJson } from "../options.js";
import { beginReport, publish } from "../report.js";
import { type Comparison, compare } from "./compare.js";
import { engineFindings } from "./findings.js";
import { readModelCosts } from "./model-costs.js";
import { modelFile } from "./model-file.js";
import type { EngineBenchOptions } from "./options.js";
import { runProfile } from "./profile-command.js";
import { listRivals, openOwn, PEER_NAMES } from "./rivals.js";
import { timeVerification } from "./verification.js";
import { contextOf, describeWorkload, MOST_KV_TOKENS, WORKLOADS } from "./workloads.js";

export function addEngineCommand(program: Command): void {
  const command = program
    .command("engine")
    .description("time the native engine alone: prefill, decode, verification, beside a peer if wanted")
    .option("--model <name>", "catalogue name or .gguf file", "smollm2-135m-instruct")
    .option(
      "--threads <n>",
      "compute threads, ours and the peer's",
      wholeNumber(1, 1024),
      availableParallelism(),
    )
    .option("--rounds <n>", "runs of each workload", wholeNumber(1, 100), 5)
    .option("--instruction-set <name>", "kernel family, or auto", "auto")
    .addOption(
      choice("--kv <format>", "how keys and values are kept", ["f16", "bf16", "int8"]).default("f16"),
    )
    .addOption(choice("--affinity <how>", "where our threads run", ["auto", "pin", "none"]).default("auto"))
    .option("--only <texts...>", 'workloads whose names hold one of these, e.g. "prefill 512"')
    .option("--format <name>", "the model in another format, made by llama-quantize from its floats")
    .addOption(choice("--peer <name>", "run it too, ours and its runs alternating", PEER_NAMES))
    .option("--formats", "let the peer also run copies in its other formats, and us those that we read")
    .option("--profile", "instead: where each step's time goes, operation by operation");
  withJson(command).action((options: EngineBenchOptions) =>
    options.profile === true ? runProfile(options) : runEngine(options),
  );
}

async function runEngine(options: EngineBenchOptions): Promise<void> {
  const wanted = chosenByName(WORKLOADS, describeWorkload, options.only);
  const finish = beginReport("engine");
  const say = (text: string) => process.stderr.write(`${text}\n`);
  const { threads, rounds } = options;
  const path = await modelFile(options, say);
  const { instructionSet, kv } = options;
  const formats = options.formats ?? false;
  const peer =
    options.peer === undefined
      ? undefined
      : await listRivals(options.peer, { model: path, threads, instructionSet, kv, formats, say });
  const rivals = peer?.rivals ?? [];
  const { engine, workload, close } = openOwn({
    path,
    threads,
    instructionSet,
    kv,
    affinity: options.affinity,
  });
  const costs = readModelCosts(path, engine.kvBytes / MOST_KV_TOKENS);
  const workloads = wanted.filter((workload) => contextOf(workload) <= engine.contextTokens);
  const notRun = wanted.filter((workload) => !workloads.includes(workload)).map(describeWorkload);
  try {
    const ceilingsNow = () => measureMachine(engine.instructionSet, threads, costs.weightBytes);
    const before = ceilingsNow();
    const comparisons: Comparison[] = [];
    for (const one of workloads) comparisons.push(await compare(workload, one, rivals, rounds, say));
    const verification = options.only === undefined ? timeVerification(workload, rounds) : [];
    const ceilings = higherCeilings(before, ceilingsNow());
    publish(
      finish({
        settings: {
          model: options.model,
          format: options.format ?? null,
          threads,
          rounds,
          instructionSet: engine.instructionSet,
          kv: engine.kv,
          placement: engine.placement,
          peer: peer?.describe() ?? null,
        },
        ...engineFindings({ comparisons, verification, ceilings, costs, notRun }),
      }),
      options.json,
    );
  } finally {
    close();
    for (const rival of rivals) rival.close();
  }
}
