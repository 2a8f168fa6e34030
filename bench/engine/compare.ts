import type { LlamaCpp } from "../peer/build-llama-cpp.js";
import { fastCopies } from "../peer/fast-formats.js";
import { bestPeerSettings, type PeerSettings, runPeer } from "../peer/llama-cpp.js";
import { type PairedRatio, pairedRatio } from "../statistics.js";
import type { LaneWorkload } from "./workload.js";
import { describeWorkload, type Workload } from "./workloads.js";

/** A peer engine with the file it runs. */
export interface Peer {
  readonly name: string;
  readonly engine: LlamaCpp;
  readonly model: string;
}

export interface Comparison {
  readonly workload: Workload;
  /** Tokens a second of each run. */
  readonly ours: readonly number[];
  readonly peers: readonly PeerComparison[];
}

export interface PeerComparison {
  readonly name: string;
  /** The settings it was fastest with, found by trying. */
  readonly settings: PeerSettings;
  readonly runs: readonly number[];
  /** Ours over theirs. */
  readonly ratio: PairedRatio;
  /** Share of one core that our own idle threads took while it ran, at most. */
  readonly ourIdleCores: number;
}

/** llama.cpp with the file as shipped and, with `formats`, with copies in its fastest formats. */
export async function listPeers(
  engine: LlamaCpp,
  model: string,
  formats: boolean,
  say: (text: string) => void,
): Promise<Peer[]> {
  const copies = formats ? await fastCopies(engine, model, say) : [];
  return [
    { name: "llama.cpp", engine, model },
    ...copies.map(({ format, path }) => ({ name: `llama.cpp ${format}`, engine, model: path })),
  ];
}

export function runOurs(lane: LaneWorkload, workload: Workload): number {
  return workload.kind === "prefill"
    ? lane.prefill(workload.tokens)
    : lane.decode(workload.sequences, workload.promptTokens, workload.outputTokens);
}

/**
 * Runs a workload `rounds` times on our lane and on every peer in turn, the order reversed each round, so that
 * a machine that speeds up or slows down favours nobody.
 */
export async function compare(
  lane: LaneWorkload,
  workload: Workload,
  peers: readonly Peer[],
  threads: number,
  rounds: number,
  say: (text: string) => void,
): Promise<Comparison> {
  const ours: number[] = [];
  const theirs: { peer: Peer; settings: PeerSettings; runs: number[]; idle: number }[] = [];
  for (const peer of peers) {
    say(`${describeWorkload(workload)}: trying settings of ${peer.name}`);
    const settings = await bestPeerSettings(peer.engine, peer.model, threads, workload, 1);
    theirs.push({ peer, settings, runs: [], idle: 0 });
  }
  runOurs(lane, workload);
  for (let round = 0; round < rounds; round++) {
    say(`${describeWorkload(workload)}: round ${round + 1} of ${rounds}`);
    const turns = [
      async () => {
        ours.push(runOurs(lane, workload));
      },
      ...theirs.map((entry) => async () => {
        const before = process.cpuUsage();
        const beganMs = performance.now();
        entry.runs.push(
          await runPeer(entry.peer.engine, entry.peer.model, threads, workload, entry.settings),
        );
        const used = process.cpuUsage(before);
        const cores = (used.user + used.system) / 1000 / (performance.now() - beganMs);
        entry.idle = Math.max(entry.idle, cores);
      }),
    ];
    for (const turn of round % 2 === 0 ? turns : turns.reverse()) await turn();
  }
  return {
    workload,
    ours,
    peers: theirs.map(({ peer, settings, runs, idle }) => ({
      name: peer.name,
      settings,
      runs,
      ratio: pairedRatio(ours, runs),
      ourIdleCores: idle,
    })),
  };
}
