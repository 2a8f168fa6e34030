import { BenchError } from "../bench-error.js";
import { higherCeilings, measureMachine } from "../ceilings.js";
import { chosenByName } from "../options.js";
import { beginReport, publish } from "../report.js";
import { readModelCosts } from "./model-costs.js";
import { modelFile } from "./model-file.js";
import type { EngineBenchOptions } from "./options.js";
import { PROFILED_WORKLOADS, profileWorkload } from "./profile.js";
import { profileFindings } from "./profile-findings.js";
import { openOwn } from "./rivals.js";
import { MOST_KV_TOKENS } from "./workloads.js";

/** `bench engine --profile`: all workloads' steps, operation by operation. */
export async function runProfile(options: EngineBenchOptions): Promise<void> {
  if (options.peer !== undefined || options.formats === true) {
    throw new BenchError("A profile is of our engine alone: leave --peer and --formats out.");
  }
  const workloads = chosenByName(PROFILED_WORKLOADS, ({ name }) => name, options.only);
  const finish = beginReport("engine --profile");
  const { threads, rounds, instructionSet } = options;
  const path = await modelFile(options, (text) => process.stderr.write(`${text}\n`));
  const { engine, lane, close } = openOwn({ path, threads, instructionSet, kv: options.kv, profile: true });
  try {
    const costs = readModelCosts(path, engine.kvBytes / MOST_KV_TOKENS);
    const ceilingsNow = () => measureMachine(engine.instructionSet, threads, costs.weightBytes);
    const before = ceilingsNow();
    const breakdowns = workloads.map((workload) => {
      process.stderr.write(`${workload.name}\n`);
      return profileWorkload(lane, workload, rounds);
    });
    const settings = {
      model: options.model,
      format: options.format ?? null,
      kv: options.kv,
      threads,
      rounds,
      instructionSet: engine.instructionSet,
    };
    const findings = profileFindings(breakdowns, higherCeilings(before, ceilingsNow()));
    publish(finish({ settings, ...findings }), options.json);
  } finally {
    close();
  }
}
