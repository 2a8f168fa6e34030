import type { PeerName } from "./rivals.js";

/** What `bench engine` was asked for. */
export interface EngineBenchOptions {
  readonly model: string;
  readonly threads: number;
  readonly rounds: number;
  readonly instructionSet: string;
  readonly kv: "f16" | "bf16" | "int8";
  readonly affinity: "auto" | "pin" | "none";
  readonly only?: readonly string[];
  readonly format?: string;
  readonly peer?: PeerName;
  readonly formats?: boolean;
  readonly profile?: boolean;
  readonly json?: string;
}
