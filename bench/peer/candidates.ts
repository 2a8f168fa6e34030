import type { Workload } from "../engine/workloads.js";
import type { ServedPeer } from "./served-peer.js";

/** A peer opened with one choice of settings that change its speed. */
export interface Candidate {
  readonly settings: string;
  open(): ServedPeer;
}

/** Peers that are opened when first asked for, and closed together. */
export class Candidates {
  readonly #candidates: readonly Candidate[];
  readonly #opened = new Map<Candidate, ServedPeer>();
  #description = "";

  constructor(candidates: readonly Candidate[]) {
    this.#candidates = candidates;
  }

  /** What the peer calls itself, once it was opened. */
  get description(): string {
    return this.#description;
  }

  /** The settings that a workload is fastest with, each tried twice: the first run warms up. */
  async fastest(workload: Workload): Promise<{ settings: string; run: () => Promise<number> }> {
    let best: { candidate: Candidate; speed: number } | undefined;
    for (const candidate of this.#candidates) {
      const peer = await this.#open(candidate);
      await peer.run(workload);
      const speed = await peer.run(workload);
      if (best === undefined || speed > best.speed) best = { candidate, speed };
    }
    const { candidate } = best!;
    const peer = await this.#open(candidate);
    return { settings: candidate.settings, run: () => peer.run(workload) };
  }

  close(): void {
    for (const peer of this.#opened.values()) peer.close();
  }

  async #open(candidate: Candidate): Promise<ServedPeer> {
    const opened = this.#opened.get(candidate);
    if (opened !== undefined) return opened;
    const peer = candidate.open();
    this.#opened.set(candidate, peer);
    this.#description = await peer.ready();
    return peer;
  }
}
