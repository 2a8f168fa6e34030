/**
 * Brings a fresh clone to where it can serve: locked dependencies, compiled TypeScript, the native addon and
 * the model; and an installed package, which has all but the addon. What is up to date is left alone. Built-in modules
 * alone: nothing may be installed yet.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism, freemem } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { dependenciesInstalled, fingerprint, isFresh, markFresh } from "./freshness.mjs";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** `typescript` 7 and the code's target need at least this. */
const LEAST_NODE = 20;
/** What a compiler of the kernels takes at most, in bytes: as many run at once as memory has room for. */
const COMPILER_BYTES = 1e9;
/** Lines shown of a failed command's output, at either end: compilers and npm say what matters first or last. */
const SHOWN_LINES = 15;

/**
 * A failure that its sentence explains: `code: what to do`. `output` is what the command behind it said; with an
 * empty sentence, a child has explained it all.
 */
export class SetUpError extends Error {
  constructor(code, sentence, output = "") {
    super(sentence);
    this.code = code;
    this.output = output;
  }
}

/** True in a clone; a package has no lock file. */
export const isClone = existsSync(join(root, "package-lock.json"));

/** Commands under way; they end with this process. */
const children = new Set();
process.on("exit", () => {
  for (const child of children) {
    child.kill();
  }
});

/**
 * @param {{ pull?: string[] }} options `pull`: arguments that name the model to fetch beside the native build.
 *   Without it the model is left to whoever needs it.
 */
export async function setUp({ pull } = {}) {
  if (Number(process.versions.node.split(".")[0]) < LEAST_NODE) {
    throw new SetUpError(
      "tool_missing",
      `Node ${process.versions.node} is too old: install Node ${LEAST_NODE} or newer and run this again.`,
    );
  }
  if (!isClone) {
    await buildNative();
    return;
  }
  if (!dependenciesInstalled(root)) {
    await installDependencies();
  }
  const model = async () => {
    await compileTypeScript();
    if (pull === undefined) {
      return;
    }
    const command = [join(root, "dist/bundle/main.js"), "pull", ...pull];
    if ((await runShown(process.execPath, command, { quiet: true })) !== 0) {
      throw new SetUpError("model_download_failed", "");
    }
  };
  await Promise.all([buildNative(), model()]);
}

/** True when the native addon has to be compiled, so that there is time to fetch a model meanwhile. */
export function nativeIsStale() {
  return !isFresh(native.stamp, fingerprint(native.inputs), native.outputs);
}

const native = {
  inputs: ["src/native", "package-lock.json"].map((path) => join(root, path)),
  outputs: [join(root, "build/Release/streamserve.node")],
  stamp: join(root, "build/native.fingerprint"),
};

async function installDependencies() {
  say("installing dependencies");
  await run(
    "npm",
    ["ci", "--include=dev", "--no-progress"],
    "install_failed",
    "npm could not install the locked dependencies: check the network and the registry, then run this again.",
  );
}

async function compileTypeScript() {
  const print = fingerprint(
    ["src", "bench", "scripts/bundle.mjs", "tsconfig.json", "package-lock.json"].map((path) =>
      join(root, path),
    ),
  );
  const stamp = join(root, "dist/.fingerprint");
  if (isFresh(stamp, print, [join(root, "dist/cli/main.js"), join(root, "dist/bundle/main.js")])) {
    return;
  }
  say("compiling TypeScript");
  for (const project of ["tsconfig.json", "src/viewer/tsconfig.json", "bench/tsconfig.json"].filter((file) =>
    existsSync(join(root, file)),
  )) {
    await run(
      process.execPath,
      [join(root, "node_modules/typescript/bin/tsc"), "-p", project],
      "build_failed",
      "the TypeScript sources do not compile: mend what the compiler says above.",
    );
  }
  await run(
    process.execPath,
    [join(root, "scripts/bundle.mjs")],
    "build_failed",
    "the compiled modules can't be bundled: mend what esbuild says above.",
  );
  markFresh(stamp, print);
}

async function buildNative() {
  const print = fingerprint(native.inputs);
  if (isFresh(native.stamp, print, native.outputs)) {
    return;
  }
  await requireTool("make", "install it (Debian: apt-get install make) and run this again");
  await requireTool(process.env.CXX ?? "g++", "install it (Debian: apt-get install g++) and run this again");
  say("compiling the native engine");
  await run(
    "make",
    ["-C", "src/native", `-j${compilersAtOnce()}`, "--no-print-directory", ...headersElsewhere()],
    "build_failed",
    "the native engine does not compile: see what the compiler says above; g++ 12 or newer is needed.",
  );
  if (!existsSync(native.outputs[0])) {
    throw new SetUpError(
      "build_failed",
      "make ended well, but there is no build/Release/streamserve.node: run make -C src/native clean, then this again.",
    );
  }
  markFresh(native.stamp, print);
}

/** The headers of Node-API lie beside an installed package, wherever its installer put them. */
function headersElsewhere() {
  if (isClone) {
    return [];
  }
  const found = createRequire(import.meta.url).resolve("node-api-headers/package.json");
  return [`NAPI_INCLUDE=${join(dirname(found), "include")}`];
}

function compilersAtOnce() {
  return Math.max(1, Math.min(availableParallelism(), Math.floor(freemem() / COMPILER_BYTES)));
}

async function requireTool(command, remedy) {
  const found = await new Promise((resolve) => {
    const child = spawn(command, ["--version"], { stdio: "ignore" });
    child.on("error", () => resolve(false));
    child.on("exit", () => resolve(true));
  });
  if (!found) {
    throw new SetUpError("tool_missing", `${command} is missing: ${remedy}.`);
  }
}

/** Runs a command in the repository; its output is kept back and shown only if it fails. */
async function run(command, args, code, sentence) {
  let output = "";
  const child = start(command, args, ["ignore", "pipe", "pipe"]);
  child.stdout.on("data", (chunk) => {
    output += chunk;
  });
  child.stderr.on("data", (chunk) => {
    output += chunk;
  });
  if ((await statusOf(child)) !== 0) {
    throw new SetUpError(code, sentence, ends(output.trimEnd().split("\n")).join("\n"));
  }
}

function ends(lines) {
  return lines.length <= 2 * SHOWN_LINES
    ? lines
    : [...lines.slice(0, SHOWN_LINES), "...", ...lines.slice(-SHOWN_LINES)];
}

/**
 * Runs a command that shows what it does and explains its own failures. Resolves to its exit status. With
 * `quiet` only what it writes to stderr is shown.
 */
export function runShown(command, args, { quiet = false } = {}) {
  return statusOf(start(command, args, ["inherit", quiet ? "ignore" : "inherit", "inherit"]));
}

function start(command, args, stdio) {
  const child = spawn(command, args, { cwd: root, stdio });
  children.add(child);
  return child;
}

/** Exit status of a child; 1 when a signal ended it. */
function statusOf(child) {
  return new Promise((resolve, reject) => {
    child.on("error", () =>
      reject(
        new SetUpError("tool_missing", `${child.spawnfile} could not be run: install it and run this again.`),
      ),
    );
    child.on("close", (status) => {
      children.delete(child);
      resolve(status ?? 1);
    });
  });
}

function say(text) {
  process.stderr.write(`streamserve: ${text}\n`);
}

/** Runs `main`; a failure ends the process with status 1 and, as its last words, one sentence on stderr. */
export async function orExplain(main) {
  try {
    await main();
  } catch (error) {
    if (!(error instanceof SetUpError)) {
      throw error;
    }
    if (error.output !== "") {
      process.stderr.write(`${error.output}\n`);
    }
    if (error.message !== "") {
      process.stderr.write(`${error.code}: ${error.message}\n`);
    }
    process.exit(1);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await orExplain(() => setUp());
}
