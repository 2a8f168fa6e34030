import { median, summarize } from "#streamserve/report/statistics.js";
import type { House } from "./houses.js";
import { type RunOptions, runStreams } from "./streams.js";

export interface CellOptions extends Omit<RunOptions, "tenant"> {
  readonly dataset: string;
  readonly rounds: number;
}

/** One set at one load. */
export interface Cell {
  readonly dataset: string;
  readonly streams: number;
  /** Median tokens a second over the rounds, house by house. */
  readonly tokensPerSecond: readonly number[];
  /** The rounds themselves, house by house. */
  readonly rounds: readonly (readonly number[])[];
  readonly plainTokensPerSecond: number;
  /** By how much the best fixed depth is ahead of SpecuStream, as a share; below 0: SpecuStream is ahead. */
  readonly regret: number;
  /** The same against depth 0. */
  readonly againstPlain: number;
  /** Standard errors of both, from how the rounds scatter; NaN with one round. */
  readonly regretError: number;
  readonly againstPlainError: number;
  readonly bestFixed: string;
  /** Answers of SpecuStream, and of all houses, by prompt. */
  readonly answers: ReadonlyMap<number, readonly number[]>;
  readonly allAnswers: readonly (readonly [number, readonly number[]])[];
}

let runs = 0;

/**
 * Each house in turn, round after round, the order turning with the round and the load. Ratios are taken within a round, since
 * runs one after another share the machine's mood, and their median counts.
 */
export async function measureCell(houses: readonly House[], options: CellOptions): Promise<Cell> {
  const { dataset, streams } = options;
  const rounds: number[][] = houses.map(() => []);
  const answers = new Map<number, readonly number[]>();
  const allAnswers: (readonly [number, readonly number[]])[] = [];
  for (let round = 0; round < options.rounds; round++) {
    for (let turn = 0; turn < houses.length; turn++) {
      const house = (turn + round + streams) % houses.length;
      const { runtime, depth } = houses[house]!;
      const run = await runStreams(runtime.service, { ...options, tenant: `run ${runs++}` });
      rounds[house]!.push(run.tokensPerSecond);
      allAnswers.push(...run.answers);
      if (depth === undefined) for (const [index, answer] of run.answers) answers.set(index, answer);
    }
  }
  const tokensPerSecond = rounds.map(median);
  const adaptive = rounds[houses.findIndex(({ depth }) => depth === undefined)]!;
  const leads = (house: number) => rounds[house]!.map((rate, round) => rate / adaptive[round]!);
  const against = (house: number) => 1 - 1 / median(leads(house));
  const ahead = (house: number) => median(leads(house)) - 1;
  const fixed = houses.flatMap(({ depth }, house) => (depth === undefined ? [] : [house]));
  const best = fixed.reduce((a, b) => (ahead(b) > ahead(a) ? b : a));
  const plain = houses.findIndex(({ depth }) => depth === 0);
  return {
    dataset,
    streams,
    tokensPerSecond,
    rounds,
    plainTokensPerSecond: tokensPerSecond[plain]!,
    regret: against(best),
    againstPlain: against(plain),
    regretError: errorOfMedian(leads(best)),
    againstPlainError: errorOfMedian(leads(plain)),
    bestFixed: houses[best]!.name,
    answers,
    allAnswers,
  };
}

/** A median of normal values scatters about a quarter more than their mean. */
function errorOfMedian(values: readonly number[]): number {
  const { mean, count } = summarize(values);
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (count - 1);
  return 1.25 * Math.sqrt(variance / count);
}
