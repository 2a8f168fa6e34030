import { existsSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { BenchError } from "../bench-error.js";
import { cacheDirectory, processorKey } from "../cache.js";
import { runChild } from "../child.js";

/** Pinned, so that figures of different days have the same peer. The package carries llama.cpp's source. */
const CARRIER = "node-llama-cpp@3.22.1";
const PROGRAMS = ["llama-bench", "llama-batched-bench", "llama-quantize", "llama-server", "llama-perplexity"];
/** A build on two slow cores takes about ten minutes. */
const BUILD_TIMEOUT_MS = 3_600_000;
const DOWNLOAD_TIMEOUT_MS = 600_000;

export interface LlamaCpp {
  /** Directory of its programs. */
  readonly bin: string;
  /** What it calls itself: carrier package and compiler, as far as they bear on speed. */
  readonly description: string;
}

/**
 * llama.cpp, built for this very processor out of the git bundle inside the npm package node-llama-cpp; the
 * first call downloads and builds, later ones find it. Throws BenchError that names a missing tool.
 */
export async function buildLlamaCpp(say: (text: string) => void): Promise<LlamaCpp> {
  const root = cacheDirectory("llama.cpp", `${CARRIER}-${processorKey()}`);
  const build = join(root, "source", "build");
  const built = join(root, "built");
  const isBuilt = existsSync(built) && PROGRAMS.every((name) => existsSync(join(build, "bin", name)));
  if (!isBuilt) {
    const tarball = await fetchCarrier(root, say);
    say("unpacking llama.cpp's source");
    await runChild("tar", ["xzf", tarball, "-C", root, "package/llama/gitRelease.bundle"], {
      timeoutMs: DOWNLOAD_TIMEOUT_MS,
    });
    const bundle = join(root, "package", "llama", "gitRelease.bundle");
    if (!existsSync(join(root, "source", "CMakeLists.txt"))) {
      rmSync(join(root, "source"), { recursive: true, force: true });
      await runChild("git", ["clone", "--quiet", bundle, join(root, "source")], {
        timeoutMs: DOWNLOAD_TIMEOUT_MS,
        remedy: "install git",
      });
    }
    say("building llama.cpp for this processor (some minutes, once)");
    await configureAndBuild(join(root, "source"), build);
    writeFileSync(built, "");
  }
  return { bin: join(build, "bin"), description: `llama.cpp from ${CARRIER}, -DGGML_NATIVE=ON` };
}

async function fetchCarrier(directory: string, say: (text: string) => void): Promise<string> {
  const find = () => readdirSync(directory).find((name) => name.endsWith(".tgz"));
  let tarball = find();
  if (tarball === undefined) {
    say(`fetching ${CARRIER}`);
    await runChild("npm", ["pack", "--silent", CARRIER], { cwd: directory, timeoutMs: DOWNLOAD_TIMEOUT_MS });
    tarball = find();
  }
  if (tarball === undefined) throw new BenchError(`npm pack ${CARRIER} left no package in ${directory}.`);
  return join(directory, tarball);
}

async function configureAndBuild(source: string, build: string): Promise<void> {
  const remedy = "install it (Debian: apt-get install cmake; or pip install cmake) and run this again";
  // Without the web page and TLS: neither is measured, and the page would be downloaded.
  const options = {
    CMAKE_BUILD_TYPE: "Release",
    GGML_NATIVE: "ON",
    LLAMA_BUILD_TESTS: "OFF",
    LLAMA_BUILD_EXAMPLES: "OFF",
    LLAMA_BUILD_UI: "OFF",
    LLAMA_USE_PREBUILT_UI: "OFF",
    LLAMA_OPENSSL: "OFF",
  };
  const settings = Object.entries(options).map(([name, value]) => `-D${name}=${value}`);
  await runChild("cmake", ["-S", source, "-B", build, ...settings], { timeoutMs: BUILD_TIMEOUT_MS, remedy });
  await runChild(
    "cmake",
    ["--build", build, "--parallel", String(availableParallelism()), "--target", ...PROGRAMS],
    { timeoutMs: BUILD_TIMEOUT_MS, remedy },
  );
}
