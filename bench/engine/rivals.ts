import { closeEngine, NativeLane, openEngine } from "#streamserve/engine/native-engine.js";
import type { LlamaCpp } from "../peer/build-llama-cpp.js";
import { fastCopies } from "../peer/fast-formats.js";
import { bestPeerSettings, type PeerSettings, runPeer } from "../peer/llama-cpp.js";
import { LaneWorkload } from "./workload.js";
import { MOST_KV_TOKENS, MOST_PROMPT_TOKENS, MOST_SEQUENCES, type Workload } from "./workloads.js";

/** What runs beside our engine on the file as shipped: a peer, or our own engine on another file. */
export interface Rival {
  readonly name: string;
  /** Whether it is our own engine: its threads are then ours. */
  readonly own: boolean;
  /** The settings it is fastest with, found by trying; undefined where it has none. */
  settle(workload: Workload): Promise<PeerSettings | undefined>;
  /** Runs a workload once and returns tokens a second. */
  run(workload: Workload, settings: PeerSettings | undefined): Promise<number>;
  close(): void;
}

export interface OwnOptions {
  readonly path: string;
  readonly threads: number;
  readonly instructionSet: string;
  readonly kv: "f16" | "int8";
}

/** Our engine with one lane that is large enough for every workload. The caller closes it. */
export function openOwn(options: OwnOptions) {
  const engine = openEngine({ ...options, kvTokens: MOST_KV_TOKENS });
  const lane = new NativeLane({
    engine,
    lane: 0,
    role: "decode",
    maxRows: MOST_SEQUENCES,
    maxBatchTokens: MOST_PROMPT_TOKENS,
  });
  return {
    engine,
    workload: new LaneWorkload(lane),
    close: () => {
      lane.close();
      closeEngine(engine.id);
    },
  };
}

export function runOurs(lane: LaneWorkload, workload: Workload): number {
  return workload.kind === "prefill"
    ? lane.prefill(workload.tokens)
    : lane.decode(workload.sequences, workload.promptTokens, workload.outputTokens);
}

export interface RivalOptions {
  readonly engine: LlamaCpp;
  /** The file as shipped. */
  readonly model: string;
  readonly threads: number;
  readonly instructionSet: string;
  /** How our engine keeps keys and values; the peer keeps 16-bit floats. */
  readonly kv: "f16" | "int8";
  /** Adds copies in llama.cpp's fastest formats, run by it and by our engine. */
  readonly formats: boolean;
  readonly say: (text: string) => void;
}

/** llama.cpp with the file as shipped and, with `formats`, it and our engine with each copy. */
export async function listRivals(options: RivalOptions): Promise<Rival[]> {
  const { engine, model, threads } = options;
  const copies = options.formats ? await fastCopies(engine, model, options.say) : [];
  return [
    peerRival("llama.cpp", engine, model, threads),
    ...copies.flatMap(({ format, path }) => [
      peerRival(`llama.cpp ${format}`, engine, path, threads),
      ownRival(`StreamServe ${format}`, {
        path,
        threads,
        instructionSet: options.instructionSet,
        kv: options.kv,
      }),
    ]),
  ];
}

function peerRival(name: string, engine: LlamaCpp, model: string, threads: number): Rival {
  return {
    name,
    own: false,
    settle: (workload) => bestPeerSettings(engine, model, threads, workload, 1),
    run: (workload, settings) => runPeer(engine, model, threads, workload, settings!),
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
      return undefined;
    },
    run: async (workload) => runOurs(own.workload, workload),
    close: own.close,
  };
}
