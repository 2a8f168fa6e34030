import { Command } from "commander";
import { addAblationCommand } from "./ablation/command.js";
import { addAccuracyCommand } from "./accuracy/command.js";
import { BenchError } from "./bench-error.js";
import { addEngineCommand } from "./engine/command.js";
import { addLoadCommand } from "./load/command.js";
import { addMemoryCommand } from "./memory/command.js";
import { addOverheadCommand } from "./overhead/command.js";
import { addPeerCommand } from "./peer/command.js";
import { addPlannerCommand } from "./planner/command.js";
import { addPlotCommand } from "./plot.js";
import { addPrefixCacheCommand } from "./prefix-cache/command.js";
import { addPrefixTierCommand } from "./prefix-tier/command.js";
import { addAnswersCommand } from "./recording/answers.js";
import { addLanesCommand } from "./recording/lanes.js";
import { addRoutingCommand } from "./routing/command.js";
import { addRuntimeCommand } from "./runtime/command.js";
import { addClassesCommand } from "./scheduling/classes.js";
import { addFaultsCommand } from "./scheduling/faults.js";
import { addOverloadCommand } from "./scheduling/overload.js";
import { addStabilityCommand } from "./scheduling/stability.js";
import { addSpeculationCommand } from "./speculation/command.js";
import { addReplayCommand } from "./speculation/replay-command.js";
import { addStartCommand } from "./start/command.js";

/**
 * Runs `streamserve bench <arguments>`. A failure that the user can mend is printed as one sentence and leaves
 * exit code 1.
 */
export async function runBench(args: readonly string[]): Promise<void> {
  const program = new Command("bench")
    .description("Measures StreamServe and its peers. docs/measuring.md says how each figure comes about.")
    .showHelpAfterError("(add --help to see the options)");
  addLoadCommand(program);
  addEngineCommand(program);
  addPeerCommand(program);
  addAccuracyCommand(program);
  addRuntimeCommand(program);
  addOverheadCommand(program);
  addSpeculationCommand(program);
  addReplayCommand(program);
  addMemoryCommand(program);
  addStartCommand(program);
  addPrefixCacheCommand(program);
  addPrefixTierCommand(program);
  addRoutingCommand(program);
  addAblationCommand(program);
  addStabilityCommand(program);
  addOverloadCommand(program);
  addClassesCommand(program);
  addFaultsCommand(program);
  addAnswersCommand(program);
  addLanesCommand(program);
  addPlannerCommand(program);
  addPlotCommand(program);
  try {
    await program.parseAsync([...args], { from: "user" });
  } catch (error) {
    if (!(error instanceof BenchError)) throw error;
    console.error(error.message);
    process.exitCode = 1;
  }
}
