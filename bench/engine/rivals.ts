import { closeEngine, NativeLane, openEngine } from "#streamserve/engine/native-engine.js";
import { buildLlamaCpp, type LlamaCpp } from "../peer/build-llama-cpp.js";
import { fastCopies } from "../peer/fast-formats.js";
import { bestPeerSettings, describeSettings, runPeer } from "../peer/llama-cpp.js";
import { openvinoRivals } from "../peer/openvino.js";
import { vllmRivals } from "../peer/vllm.js";
import { LaneWorkload } from "./workload.js";
import { MOST_KV_TOKENS, MOST_PROMPT_TOKENS, MOST_SEQUENCES, type Workload } from "./workloads.js";

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

export interface OwnOptions {
  readonly path: string;
  readonly threads: number;
  readonly instructionSet: string;
  readonly kv: "f16" | "bf16" | "int8";
  readonly affinity?: "auto" | "pin" | "none";
  /** Keeps where the time of each step went; costs some of it. */
  readonly profile?: boolean;
}

/** Our engine with one lane that is large enough for every workload. The caller closes it. */
export function openOwn({ profile = false, ...options }: OwnOptions) {
  const engine = openEngine({ ...options, kvTokens: MOST_KV_TOKENS });
  const lane = new NativeLane({
    engine,
    lane: 0,
    role: "decode",
    maxRows: MOST_SEQUENCES,
    maxBatchTokens: MOST_PROMPT_TOKENS,
    profile,
  });
  return {
    engine,
    lane,
    workload: new LaneWorkload(lane),
    close: () => {
      lane.close();
      closeEngine(engine.id);
    },
  };
}

/** Runs a workload once. A prompt that does not count goes before a prefill, as in llama-bench: a peer ran just now. */
export function runOurs(lane: LaneWorkload, workload: Workload): number {
  if (workload.kind === "decode") {
    return lane.decode(workload.sequences, workload.promptTokens, workload.outputTokens);
  }
  lane.prefill(workload.tokens);
  return lane.prefill(workload.tokens);
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

export type PeerName = "llama.cpp" | "openvino" | "vllm";
export const PEER_NAMES: readonly PeerName[] = ["llama.cpp", "openvino", "vllm"];

/** The peer, installed on first use. Throws BenchError where it can't be had. */
export function listRivals(peer: PeerName, options: RivalOptions): Promise<PeerRivals> {
  if (peer === "openvino") return openvinoRivals(options);
  return peer === "vllm" ? vllmRivals(options) : llamaCppRivals(options);
}

/** llama.cpp with the file as shipped and, with `formats`, it and our engine with each copy. */
async function llamaCppRivals(options: RivalOptions): Promise<PeerRivals> {
  const { model, threads, instructionSet, kv, say } = options;
  const engine = await buildLlamaCpp(say);
  const copies = options.formats ? await fastCopies(engine, model, say) : [];
  return {
    describe: () => engine.description,
    rivals: [
      llamaCppRival("llama.cpp", engine, model, threads),
      ...copies.flatMap(({ format, path }) => [
        llamaCppRival(`llama.cpp ${format}`, engine, path, threads),
        ownRival(`StreamServe ${format}`, { path, threads, instructionSet, kv }),
      ]),
    ],
  };
}

function llamaCppRival(name: string, engine: LlamaCpp, model: string, threads: number): Rival {
  return {
    name,
    own: false,
    settle: async (workload) => {
      const settings = await bestPeerSettings(engine, model, threads, workload, 1);
      return {
        settings: describeSettings(settings),
        run: () => runPeer(engine, model, threads, workload, settings),
      };
    },
    close: () => {},
  };
}

function ownRival(name: string, options: OwnOptions): Rival {
  const own = openOwn(options);
  return {
    name,
    own: true,
    settle: async (workload) => {
      runOurs(own.workload, workload);
      return {
        settings: "",
        run: async () => runOurs(own.workload, workload),
      };
    },
    close: own.close,
  };
}
