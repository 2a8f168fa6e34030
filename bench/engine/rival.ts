import type { Workload } from "./workloads.js";

/** What runs beside our engine on the file as shipped: a peer, or our own engine on another file. */
export interface Rival {
  readonly name: string;
  /** Whether it is our own engine: its threads are then ours. */
  readonly own: boolean;
  /** Makes it ready for a workload, at the settings it is fastest with, found by trying. */
  settle(workload: Workload): Promise<SettledRival>;
  close(): void;
}

export interface SettledRival {
  /** In words; empty where it has none to choose. */
  readonly settings: string;
  /** Tokens a second. */
  run(): Promise<number>;
}

export interface RivalOptions {
  /** The file as shipped. */
  readonly model: string;
  readonly threads: number;
  readonly instructionSet: string;
  /** How our engine keeps keys and values; the peer keeps 16-bit floats. */
  readonly kv: "f16" | "bf16" | "int8";
  /** Adds copies in other formats, run by the peer and, where we can read them, by our engine. */
  readonly formats: boolean;
  readonly say: (text: string) => void;
}

export interface PeerRivals {
  /** What the peer is, as far as that bears on speed; asked for when all has run. */
  describe(): string;
  readonly rivals: readonly Rival[];
}
