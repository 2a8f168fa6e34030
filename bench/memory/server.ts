import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { BenchError } from "../bench-error.js";

const MAIN = fileURLToPath(new URL("../../bundle/main.js", import.meta.url));
/** A first start repacks the weights; minutes mean something is wrong. */
const READY_TIMEOUT_MS = 180_000;
const STOP_TIMEOUT_MS = 20_000;

/** Resident memory of a process, in bytes, as Linux counts it. */
export interface Resident {
  readonly total: number;
  /** Anonymous pages: heaps, packed weights, KV. */
  readonly anonymous: number;
  /** Pages of mapped files (the model file, programs): the system may take them back at any time. */
  readonly file: number;
}

/** Our own server as a child process on a free port. */
export class ServerProcess {
  readonly url: string;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, url: string) {
    this.#child = child;
    this.url = url;
  }

  /** Starts `streamserve serve` with these arguments. Throws BenchError with its last words if it does not get ready. */
  static async start(args: readonly string[]): Promise<ServerProcess> {
    const child = spawn(process.execPath, [MAIN, "serve", "--port", "0", ...args], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    const url = await new Promise<string>((resolve, reject) => {
      let output = "";
      const listen = (text: string) => {
        output = (output + text).slice(-4096);
        const ready = /^(http:\S+) is ready/m.exec(output);
        if (ready) settle(() => resolve(ready[1]!));
      };
      const fail = (why: string) =>
        settle(() => reject(new BenchError(`The server ${why}. Its last words:\n${output.trimEnd()}`)));
      const timer = setTimeout(() => {
        child.kill("SIGKILL");
        fail(`was not ready after ${READY_TIMEOUT_MS / 1000} s`);
      }, READY_TIMEOUT_MS);
      const settle = (how: () => void) => {
        clearTimeout(timer);
        how();
      };
      child.stdout.setEncoding("utf8").on("data", listen);
      child.stderr.setEncoding("utf8").on("data", listen);
      child.on("close", (code) => fail(`ended with ${code}`));
    });
    return new ServerProcess(child, url);
  }

  resident(): Resident {
    const status = readFileSync(`/proc/${this.#child.pid}/status`, "utf8");
    const kibibytes = (field: string) =>
      Number(new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(status)?.[1] ?? Number.NaN) * 1024;
    return {
      total: kibibytes("VmRSS"),
      anonymous: kibibytes("RssAnon") + kibibytes("RssShmem"),
      file: kibibytes("RssFile"),
    };
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const ended = once(this.#child, "exit");
    this.#child.kill("SIGTERM");
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), STOP_TIMEOUT_MS);
    await ended;
    clearTimeout(timer);
  }
}
