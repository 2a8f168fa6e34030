import { pairedRatio } from "#streamserve/report/statistics.js";
import type { Outcome } from "./outcome.js";
import { type Part, type Substitute, WHOLE } from "./parts.js";

/** A row of the table: a substitute's figures, and each as a ratio to the whole system's of the same round. */
export interface Compared {
  readonly part: string;
  readonly name: string;
  /** Medians over rounds are the reader's to take: one outcome a round. */
  readonly rounds: readonly Outcome[];
  readonly ratios: Readonly<Record<keyof Outcome, Ratio>>;
}

/** Rounds of a run: a run that goes on where another ended has other arrivals, and begins with another variant. */
export interface Rounds {
  readonly firstRound: number;
  readonly rounds: number;
}

export interface Ratio {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/**
 * The whole system and each substitute of a part in turn, round after round, the order turning with the round: runs one
 * after another share the machine's mood, so ratios are taken within a round.
 */
export async function compareRounds(
  part: Part,
  { firstRound, rounds }: Rounds,
  measure: (substitute: Substitute, round: number) => Promise<Outcome>,
  progress: (text: string) => void,
): Promise<Compared[]> {
  const rivals = [WHOLE, ...part.substitutes];
  const outcomes: Outcome[][] = rivals.map(() => []);
  for (let round = firstRound; round < firstRound + rounds; round++) {
    progress(`${part.name}: round ${round}`);
    for (let turn = 0; turn < rivals.length; turn++) {
      const which = (turn + round) % rivals.length;
      outcomes[which]!.push(await measure(rivals[which]!, round));
    }
  }
  const whole = outcomes[0]!;
  return rivals.map(({ name }, which) => ({
    part: part.name,
    name,
    rounds: outcomes[which]!,
    ratios: ratiosTo(whole, outcomes[which]!),
  }));
}

/** Of the outcomes of one round after another to those of the whole system in the same rounds. */
export function ratiosTo(whole: readonly Outcome[], outcomes: readonly Outcome[]): Compared["ratios"] {
  return mapMeasures((key) => {
    const of = (all: readonly Outcome[]) => all.map((outcome) => outcome[key]);
    return pairedRatio(of(outcomes), of(whole));
  });
}

function mapMeasures(of: (key: keyof Outcome) => Ratio): Record<keyof Outcome, Ratio> {
  return {
    throughput: of("throughput"),
    ttftP50: of("ttftP50"),
    ttftP99: of("ttftP99"),
    tpotP50: of("tpotP50"),
    tpotP99: of("tpotP99"),
    goodput: of("goodput"),
  };
}
