import { closeEngine, NativeLane, openEngine } from "#streamserve/engine/native-engine.js";
import { buildLlamaCpp, type LlamaCpp } from "../peer/build-llama-cpp.js";
import { fastCopies } from "../peer/fast-formats.js";
import { bestPeerSettings, describeSettings, runPeer } from "../peer/llama-cpp.js";
import { openvinoRivals } from "../peer/openvino.js";
import { vllmRivals } from "../peer/vllm.js";
import type { PeerRivals, Rival, RivalOptions } from "./rival.js";
import { LaneWorkload } from "./workload.js";
import { MOST_KV_TOKENS, MOST_PROMPT_TOKENS, MOST_SEQUENCES, type Workload } from "./workloads.js";

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
