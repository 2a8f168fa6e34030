import { readFileSync } from "node:fs";
import * as z from "zod";
import { BenchError } from "../bench-error.js";
import type { Measured } from "./findings.js";
import { PARTS } from "./parts.js";
import { ratiosTo } from "./rounds.js";

/** Reports of single parts put together: a quiet machine is easier had for some minutes than for an hour. */

/** JSON has no NaN: what could not be measured is null there. */
const figure = z
  .number()
  .nullable()
  .transform((value) => value ?? Number.NaN);
const measures = <T extends z.ZodType>(of: T) =>
  z.object({ throughput: of, ttftP50: of, ttftP99: of, tpotP50: of, tpotP99: of, goodput: of });
const ratio = z.object({ median: figure, min: figure, max: figure });
const reportSchema = z.object({
  command: z.literal("ablation"),
  at: z.string(),
  revision: z.string(),
  machine: z.object({ cpu: z.string(), load: z.number() }),
  results: z.array(
    z.object({
      where: z.string(),
      objective: z.object({ ttftMs: z.number(), tpotMs: z.number() }),
      capacities: z.array(z.number()).optional(),
      company: z.array(z.number()).optional(),
      compared: z.array(
        z.object({
          part: z.string(),
          name: z.string(),
          rounds: z.array(measures(figure)),
          ratios: measures(ratio),
        }),
      ),
    }),
  ),
});

/** Places in the order they come, parts in their own. `notes`: when and at what revision each was measured. */
export function joinReports(files: readonly string[]): { measured: Measured[]; notes: string[] } {
  const byPlace = new Map<string, { objective: Measured["objective"]; parts: Map<string, Joined> }>();
  const notes: string[] = [];
  for (const file of files) {
    const { at, revision, machine, results } = readReport(file);
    for (const { where, objective, compared, capacities = [], company = [] } of results) {
      const place = byPlace.get(where) ?? { objective, parts: new Map<string, Joined>() };
      byPlace.set(where, place);
      const names = [...new Set(compared.map(({ part }) => part))];
      for (const [index, name] of names.entries()) {
        const rows = compared.filter(({ part }) => part === name);
        const earlier = place.parts.get(name) ?? { rows: [], capacities: [], company: [] };
        place.parts.set(name, {
          rows: addRounds(earlier.rows, rows, file),
          capacities: [...earlier.capacities, ...capacities.slice(index, index + 1)],
          company: [...earlier.company, ...company.slice(index, index + 1)],
        });
      }
      notes.push(
        `${names.join("; ")} (${where}): measured at ${revision}, ${at}, load average ${machine.load}, ${machine.cpu}.`,
      );
    }
  }
  const measured = [...byPlace].map(([where, { objective, parts }]): Measured => {
    const present = PARTS.flatMap(({ name }) => parts.get(name) ?? []);
    return {
      where,
      objective,
      compared: present.flatMap(({ rows }) => rows),
      capacities: present.flatMap(({ capacities }) => capacities),
      company: present.flatMap(({ company }) => company),
    };
  });
  return { measured, notes };
}

interface Joined {
  readonly rows: Measured["compared"];
  /** Of each run that was joined. */
  readonly capacities: readonly number[];
  readonly company: readonly number[];
}

/** Rounds of another run of the same part: its ratios are within its own rounds, so that its load need not be the same. */
function addRounds(
  earlier: Measured["compared"],
  more: Measured["compared"],
  file: string,
): Measured["compared"] {
  if (earlier.length === 0) return more;
  const names = (rows: Measured["compared"]) => rows.map(({ name }) => name).join(", ");
  if (names(earlier) !== names(more)) {
    throw new BenchError(`${file} can't be joined: it compares ${names(more)}, another ${names(earlier)}.`);
  }
  const rounds = more.map((row, index) => [...earlier[index]!.rounds, ...row.rounds]);
  return more.map((row, index) => ({
    ...row,
    rounds: rounds[index]!,
    ratios: ratiosTo(rounds[0]!, rounds[index]!),
  }));
}

function readReport(file: string): z.output<typeof reportSchema> {
  try {
    return reportSchema.parse(JSON.parse(readFileSync(file, "utf8")));
  } catch (error) {
    const why = error instanceof z.ZodError ? "it is no report of this command" : String(error);
    throw new BenchError(`${file} can't be joined: ${why}. Give files that ablation wrote with --json.`);
  }
}
