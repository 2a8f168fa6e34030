import type { Command } from "commander";
import { configSchema } from "#streamserve/config/schema.js";
import { RECORDED_SETS, type Recording, readRecording } from "#streamserve/model/recording.js";
import { answersOf, resolveModel } from "#streamserve/model/resolve.js";
import { answersTable, knownAnswers, rememberAnswer } from "#streamserve/policy/known-answers.js";
import type { Successors } from "#streamserve/policy/successors.js";
import { wholeNumber, wholeNumbers, withJson } from "../options.js";
import { beginReport, publish } from "../report.js";
import { idealOf } from "./ideal.js";
import { measureSteps } from "./step-times.js";

interface ReplayOptions {
  readonly model: string;
  readonly threads: number;
  readonly perTenant: readonly number[];
  readonly tokens: number;
  readonly json?: string;
}

/** What known answers gain, by how much a tenant has said: recorded answers, drafted anew with and without them. */
export function addReplayCommand(program: Command): void {
  const command = program
    .command("drafts")
    .description("replay the recorded answers at one stream, with known answers to draft from and without")
    .option("--model <name>", "catalogue name, with answers", "smollm2-135m-instruct")
    .option("--threads <n>", "compute threads; 0: one a core", wholeNumber(0, 1024), 0)
    .option(
      "--per-tenant <list>",
      "answers of a tenant before another one comes",
      wholeNumbers(1, 1000),
      [1, 4, 16, 80],
    )
    .option("--tokens <n>", "tokens of an answer, at most", wholeNumber(1, 512), 128);
  withJson(command).action(runReplay);
}

function allOf({ requests }: Recording): Successors {
  const table = answersTable(requests.reduce((sum, { answer }) => sum + answer.length, 0));
  for (const { answer } of requests) rememberAnswer(table, answer);
  return knownAnswers(table);
}

async function runReplay(options: ReplayOptions): Promise<void> {
  const finish = beginReport("drafts");
  const config = configSchema.parse({ speculation: { knownAnswers: answersOf(options.model) } });
  const stepMs = await measureSteps(await resolveModel(options.model), options.threads);
  const { knownAnswers: file } = config.speculation;
  const known = file === undefined ? undefined : allOf(readRecording(file));
  const rows = RECORDED_SETS.flatMap((set) => {
    const recorded = readRecording(set).requests.map(({ prompt, answer }) => ({
      prompt,
      answer: [...answer.subarray(0, options.tokens)],
    }));
    return options.perTenant.map((perTenant) => {
      const gain = (table: typeof known) =>
        idealOf(recorded, config.speculation, stepMs, table, perTenant).rule;
      const without = gain(undefined);
      const informed = gain(known);
      return [set, perTenant, without, informed, `${(100 * (informed / without - 1)).toFixed(1)}%`];
    });
  });
  publish(
    finish({
      settings: { ...options, json: undefined },
      tables: [
        {
          title:
            "Tokens a second relative to depth 0, one stream, by the goodput rule and measured times of steps",
          columns: ["set", "answers a tenant", "without known answers", "with", "gain"],
          rows,
        },
      ],
      notes: [],
      results: rows,
      figures: [],
    }),
    options.json,
  );
}
