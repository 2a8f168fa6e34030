import { existsSync } from "node:fs";
import { basename, join } from "node:path";
import type { QuantisedFormat } from "#streamserve/engine/quantiser.js";
import { quantise } from "#streamserve/model/quantise/quantise.js";
import { cacheDirectory } from "../cache.js";
import type { PeerRivals, Rival, RivalOptions } from "../engine/rival.js";
import { MOST_SEQUENCES, MOST_STEP_TOKENS } from "../engine/workloads.js";
import { type Candidate, Candidates } from "./candidates.js";
import { pythonFile, pythonVenv } from "./python-venv.js";
import { ServedPeer } from "./served-peer.js";

/** Attention over pages, as its server runs, and over a state, as one conversation runs; and activations in bf16. */
const SETTINGS = ["PA", "SDPA", "PA INFERENCE_PRECISION_HINT=bf16"];
/** Formats nearest to its own layouts, by its documentation. */
const COPIES: readonly QuantisedFormat[] = ["q4_0", "q8_0"];
const REMARK = "It has wheels for Linux, macOS and Windows on x86-64 and 64-bit Arm alone.";

/** OpenVINO GenAI over the same GGUF file and, with `formats`, over copies in Q4_0 and Q8_0. */
export async function openvinoRivals(options: RivalOptions): Promise<PeerRivals> {
  const { model, threads, say } = options;
  const venv = await pythonVenv("openvino", REMARK, say);
  const files = [{ name: "OpenVINO GenAI", path: model }];
  for (const format of options.formats ? COPIES : []) {
    files.push({ name: `OpenVINO GenAI ${format.toUpperCase()}`, path: await copy(model, format, threads) });
  }
  const opened = files.map(({ path }) => new Candidates(candidates(venv, path, threads)));
  return {
    describe: () => opened[0]?.description ?? "",
    rivals: files.map(({ name }, index): Rival => {
      const peer = opened[index]!;
      return {
        name,
        own: false,
        settle: (workload) => peer.fastest(workload),
        close: () => peer.close(),
      };
    }),
  };
}

function candidates(venv: string, path: string, threads: number): Candidate[] {
  return SETTINGS.map((settings) => ({
    settings,
    open: () =>
      new ServedPeer({
        name: "OpenVINO GenAI",
        program: join(venv, "bin", "python"),
        args: [
          pythonFile("openvino_peer.py"),
          path,
          String(threads),
          String(MOST_SEQUENCES),
          String(MOST_STEP_TOKENS),
          ...settings.split(" "),
        ],
      }),
  }));
}

/** Rounded again what is rounded already: for speed alone. Made once and kept. */
async function copy(model: string, format: QuantisedFormat, threads: number): Promise<string> {
  const path = join(cacheDirectory("requantized"), `${basename(model, ".gguf")}.ours-${format}.gguf`);
  if (!existsSync(path)) await quantise({ source: model, out: path, format, threads, requantise: true });
  return path;
}
