import { resolveModel } from "#streamserve/model/resolve.js";
import { BenchError } from "../bench-error.js";
import { higherCeilings, measureMachine } from "../ceilings.js";
import { beginReport, publish } from "../report.js";
import type { EngineBenchOptions } from "./command.js";
import { readModelCosts } from "./model-costs.js";
import { PROFILED_WORKLOADS, profileWorkload } from "./profile.js";
import { profileFindings } from "./profile-findings.js";
import { openOwn } from "./rivals.js";
import { MOST_KV_TOKENS } from "./workloads.js";

/** `bench engine --profile`: all workloads' steps, operation by operation. */
export async function runProfile(options: EngineBenchOptions): Promise<void> {
  if (options.peer !== undefined || options.formats === true) {
    throw new BenchError("A profile is of our engine alone: leave --peer and --formats out.");
  }
  const workloads = PROFILED_WORKLOADS.filter(({ name }) => name.includes(options.only ?? ""));
  if (workloads.length === 0) {
    throw new BenchError(
      `No profiled workload's name holds "${options.only}": ${PROFILED_WORKLOADS.map(({ name }) => name).join("; ")}.`,
    );
  }
  const finish = beginReport("engine --profile");
  const { threads, rounds, instructionSet } = options;
  const path = await resolveModel(options.model);
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
