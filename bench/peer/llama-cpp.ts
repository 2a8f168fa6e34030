import { join } from "node:path";
import { BenchError } from "../bench-error.js";
import { runChild } from "../child.js";
import type { Workload } from "../engine/workloads.js";
import type { LlamaCpp } from "./build-llama-cpp.js";

/** Choices that change llama.cpp's speed and not its output format. */
export interface PeerSettings {
  readonly flashAttention: boolean;
  /** Tokens it computes at once in prefill. */
  readonly microBatch: number;
}

/** No run of these workloads takes nearly so long, on any machine that is worth measuring. */
const RUN_TIMEOUT_MS = 600_000;

/** Combinations worth trying: flash attention helps prefill and can hurt decode, depending on the processor. */
export function peerCandidates(workload: Workload): PeerSettings[] {
  const microBatches = workload.kind === "prefill" ? [512, 128] : [512];
  return microBatches.flatMap((microBatch) =>
    [true, false].map((flashAttention) => ({ flashAttention, microBatch })),
  );
}

export function describeSettings({ flashAttention, microBatch }: PeerSettings): string {
  return `flash attention ${flashAttention ? "on" : "off"}, micro-batch ${microBatch}`;
}

/** Runs a workload once (after llama.cpp's own warm-up) and returns tokens a second. */
export async function runPeer(
  peer: LlamaCpp,
  model: string,
  threads: number,
  workload: Workload,
  settings: PeerSettings,
): Promise<number> {
  const common = ["-m", model, "-t", String(threads), "-ub", String(settings.microBatch)];
  if (workload.kind === "prefill" || workload.sequences === 1) {
    const lengths =
      workload.kind === "prefill"
        ? ["-p", String(workload.tokens), "-n", "0"]
        : ["-p", "0", "-n", String(workload.outputTokens), "-d", String(workload.promptTokens)];
    const flash = ["-fa", settings.flashAttention ? "1" : "0"];
    const output = await run(peer, "llama-bench", [...common, ...lengths, ...flash, "-r", "1", "-o", "json"]);
    return readSpeed("llama-bench", () => (JSON.parse(output) as { avg_ts: unknown }[])[0]?.avg_ts);
  }
  const { sequences, promptTokens, outputTokens } = workload;
  const output = await run(peer, "llama-batched-bench", [
    ...common,
    ...["-c", String(sequences * (promptTokens + outputTokens))],
    ...["-npp", String(promptTokens), "-ntg", String(outputTokens), "-npl", String(sequences)],
    ...["-fa", settings.flashAttention ? "on" : "off", "--output-format", "jsonl"],
  ]);
  const line = output.split("\n").find((text) => text.startsWith("{")) ?? "";
  return readSpeed("llama-batched-bench", () => (JSON.parse(line) as { speed_tg: unknown }).speed_tg);
}

/** The fastest candidate for a workload, each tried `tries` times and judged by its best. */
export async function bestPeerSettings(
  peer: LlamaCpp,
  model: string,
  threads: number,
  workload: Workload,
  tries: number,
): Promise<PeerSettings> {
  let best: { settings: PeerSettings; speed: number } | undefined;
  for (const settings of peerCandidates(workload)) {
    for (let attempt = 0; attempt < tries; attempt++) {
      const speed = await runPeer(peer, model, threads, workload, settings);
      if (best === undefined || speed > best.speed) best = { settings, speed };
    }
  }
  return best!.settings;
}

/** Makes a copy of the model in one of llama.cpp's own 4-bit formats, rounding again what is already rounded. */
export async function requantize(peer: LlamaCpp, model: string, format: string, out: string): Promise<void> {
  await run(peer, "llama-quantize", ["--allow-requantize", model, out, format]);
}

function run(peer: LlamaCpp, program: string, args: readonly string[]): Promise<string> {
  return runChild(join(peer.bin, program), args, { timeoutMs: RUN_TIMEOUT_MS });
}

function readSpeed(program: string, read: () => unknown): number {
  let speed: unknown;
  try {
    speed = read();
  } catch {
    speed = undefined;
  }
  if (typeof speed !== "number" || !(speed > 0)) throw new BenchError(`${program} printed no speed.`);
  return speed;
}
