import { type PairedRatio, pairedRatio } from "#streamserve/report/statistics.js";
import { Company } from "../company.js";
import type { Rival, SettledRival } from "./rival.js";
import { runOurs } from "./rivals.js";
import type { LaneWorkload } from "./workload.js";
import { describeWorkload, type Workload } from "./workloads.js";

export interface Comparison {
  readonly workload: Workload;
  /** Tokens a second of each run. */
  readonly ours: readonly number[];
  /** Share of one core that other programs took while ours ran. */
  readonly companyCores: number;
  readonly peers: readonly PeerComparison[];
}

export interface PeerComparison {
  readonly name: string;
  /** The settings it was fastest with, found by trying; our engine has none. */
  readonly settings: string;
  readonly runs: readonly number[];
  /** Ours over theirs. */
  readonly ratio: PairedRatio;
  /** Share of one core that our own idle threads took while it ran, at most. */
  readonly ourIdleCores: number;
}

/**
 * Runs a workload `rounds` times on our lane and on every rival in turn, the order reversed each round, so that
 * a machine that speeds up or slows down favours nobody.
 */
export async function compare(
  lane: LaneWorkload,
  workload: Workload,
  rivals: readonly Rival[],
  rounds: number,
  say: (text: string) => void,
): Promise<Comparison> {
  const ours: number[] = [];
  const company = new Company();
  const theirs: { rival: Rival; settled: SettledRival; runs: number[]; ourIdle: number }[] = [];
  for (const rival of rivals) {
    say(`${describeWorkload(workload)}: trying settings of ${rival.name}`);
    theirs.push({ rival, settled: await rival.settle(workload), runs: [], ourIdle: 0 });
  }
  runOurs(lane, workload);
  for (let round = 0; round < rounds; round++) {
    say(`${describeWorkload(workload)}: round ${round + 1} of ${rounds}`);
    const turns = [
      async () => {
        const end = company.begin();
        ours.push(runOurs(lane, workload));
        end();
      },
      ...theirs.map((entry) => async () => {
        const before = process.cpuUsage();
        const beganMs = performance.now();
        entry.runs.push(await entry.settled.run());
        if (entry.rival.own) return;
        const used = process.cpuUsage(before);
        const cores = (used.user + used.system) / 1000 / (performance.now() - beganMs);
        entry.ourIdle = Math.max(entry.ourIdle, cores);
      }),
    ];
    for (const turn of round % 2 === 0 ? turns : turns.reverse()) await turn();
  }
  return {
    workload,
    ours,
    companyCores: company.cores,
    peers: theirs.map(({ rival, settled, runs, ourIdle }) => ({
      name: rival.name,
      settings: settled.settings,
      runs,
      ratio: pairedRatio(ours, runs),
      ourIdleCores: ourIdle,
    })),
  };
}
