import type { Findings } from "../report.js";
import type { House } from "./houses.js";
import type { SetResult, SpeculationOptions } from "./results.js";

/** What must hold, see docs/measuring.md: shares, steps. */
const MOST_REGRET = 0.03;
const MOST_LOSS = 0.02;
const MOST_STEPS = 50;

export function findingsOf(
  options: SpeculationOptions,
  houses: readonly House[],
  results: readonly SetResult[],
): Findings {
  const cells = results.flatMap((result) => result.cells);
  const adapting = results.flatMap((result) =>
    result.adapting.map((found) => ({ ...found, dataset: result.dataset })),
  );
  const percent = (share: number) => `${(100 * share).toFixed(1)}%`;
  const withError = (share: number, error: number) =>
    Number.isNaN(error) ? percent(share) : `${percent(share)} ± ${(100 * error).toFixed(1)}`;
  const over = cells.filter(({ regret }) => regret > MOST_REGRET);
  const lost = cells.filter(({ againstPlain }) => againstPlain > MOST_LOSS);
  const late = adapting.filter(({ steps }) => steps > MOST_STEPS);
  const ideals = results.flatMap(({ dataset, ideal, cells: own }) => {
    const alone = own.find(({ streams }) => streams === 1);
    if (!ideal || !alone) return [];
    return [{ dataset, ideal, gain: 1 - alone.againstPlain }];
  });
  return {
    settings: { ...options, json: undefined },
    tables: [
      {
        title:
          "Output tokens a second, median over rounds; regret: the best fixed depth's lead over adaptive",
        columns: [
          "set, streams",
          ...houses.map(({ name }) => name),
          "best fixed",
          "regret",
          "against depth 0",
        ],
        rows: cells.map((cell) => [
          `${cell.dataset} ${cell.streams}`,
          ...cell.tokensPerSecond,
          cell.bestFixed,
          withError(cell.regret, cell.regretError),
          withError(cell.againstPlain, cell.againstPlainError),
        ]),
      },
      {
        title:
          "One stream: tokens a second relative to depth 0; ideal choosers replay the same drafts offline",
        columns: ["set", "adaptive", "best fixed, replayed", "the rule, replayed", "clairvoyant chooser"],
        rows: ideals.map(({ dataset, ideal, gain }) => [
          dataset,
          gain,
          `${ideal.bestFixed.toFixed(2)} (depth ${ideal.bestDepth})`,
          ideal.rule,
          ideal.clairvoyant,
        ]),
      },
      {
        title: "After a change of load: steps until the drafts a row were near where they settled",
        columns: ["set, streams now", "drafts a row", "steps"],
        rows: adapting.map(({ dataset, rows, settled, steps }) => [`${dataset} ${rows}`, settled, steps]),
      },
    ],
    notes: [
      `${cells.length - over.length} of ${cells.length} cells within ${percent(MOST_REGRET)} of the best fixed depth; ` +
        `${cells.length - lost.length} of ${cells.length} at most ${percent(MOST_LOSS)} below depth 0; ` +
        `${adapting.length - late.length} of ${adapting.length} changes of load found within ${MOST_STEPS} steps.`,
      "All answers to a prompt were the same tokens, whatever the depth and load.",
    ],
    results: results.map(({ dataset, ideal, adapting: found, cells: own }) => ({
      dataset,
      ideal,
      adapting: found,
      cells: own.map(({ answers: _, allAnswers: __, ...cell }) => cell),
    })),
    figures: results.map(({ dataset, cells: own }) => ({
      kind: "bars" as const,
      title: `Output tokens a second, ${dataset}`,
      valueLabel: "tokens/s relative to depth 0",
      groups: own.map(({ streams }) => `${streams} streams`),
      series: houses.map(({ name }, house) => ({
        name,
        values: own.map((cell) => cell.tokensPerSecond[house]! / cell.plainTokensPerSecond),
      })),
    })),
  };
}
