import { spawn } from "node:child_process";
import { BenchError } from "./bench-error.js";

/** Bytes of a child's standard output kept; more is an error, for all of it is wanted. */
const OUTPUT_LIMIT = 16 * 1024 * 1024;
/** Characters of a failed child's last words shown. */
const TAIL_LIMIT = 1500;

export interface ChildOptions {
  readonly cwd?: string;
  /** The child is killed, and has failed, after so long. */
  readonly timeoutMs: number;
  /** What to do when the program itself is missing, e.g. "install cmake". */
  readonly remedy?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** Runs a program and returns what it printed. Throws BenchError with its last words when it fails. */
export function runChild(program: string, args: readonly string[], options: ChildOptions): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: options.cwd,
      timeout: options.timeoutMs,
      killSignal: "SIGKILL",
      env: { ...process.env, ...options.env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    let tail = "";
    const keepTail = (text: string) => {
      tail = (tail + text).slice(-TAIL_LIMIT);
    };
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text;
      keepTail(text);
      if (output.length > OUTPUT_LIMIT) child.kill("SIGKILL");
    });
    child.stderr.setEncoding("utf8").on("data", keepTail);
    child.on("error", (error: NodeJS.ErrnoException) => {
      const why = error.code === "ENOENT" ? "is not installed" : `could not be run (${error.message})`;
      reject(new BenchError(`${program} ${why}${options.remedy ? `: ${options.remedy}` : ""}.`));
    });
    child.on("close", (code, signal) => {
      if (code === 0) {
        resolve(output);
        return;
      }
      const end = signal ? `was killed (${signal}) within ${options.timeoutMs / 1000} s` : `failed (${code})`;
      reject(new BenchError(`${program} ${args[0] ?? ""} ${end}. Its last words:\n${tail.trimEnd()}`));
    });
  });
}
