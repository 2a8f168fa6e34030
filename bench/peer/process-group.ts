import { type ChildProcess, type ChildProcessByStdio, spawn } from "node:child_process";
import type { Readable, Writable } from "node:stream";

/**
 * Ends the group named by its first argument once its standard input ends: when the process that holds the
 * other end has ended, however that came.
 */
const WARDEN = 'cat >/dev/null; kill -s KILL -- "-$1"';

/**
 * A program in a process group of its own, with whatever it starts: halted and resumed as one. Halted processes take no
 * processor time, however their threads spin. Nothing of it outlives this process, even if that is killed: terminals' signals do
 * not reach the group, and a halted process could not answer them, so that a warden waits to kill it.
 */
export class ProcessGroup {
  readonly child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #warden: ChildProcess | undefined;
  #ended = false;

  constructor(program: string, args: readonly string[], env: NodeJS.ProcessEnv) {
    this.child = spawn(program, args, { env, detached: true, stdio: ["pipe", "pipe", "pipe"] });
    if (this.child.pid === undefined) return;
    this.#warden = spawn("sh", ["-c", WARDEN, "sh", String(this.child.pid)], {
      detached: true,
      stdio: ["pipe", "ignore", "ignore"],
    });
    // Without one the group is still ended by `end`.
    this.#warden.on("error", () => {});
    // What it started may be left.
    this.child.on("exit", () => this.end());
  }

  halt(): void {
    this.#signal("SIGSTOP");
  }

  resume(): void {
    this.#signal("SIGCONT");
  }

  /** Kills all of it, halted or not. */
  end(): void {
    if (this.#ended) return;
    this.#signal("SIGKILL");
    this.#ended = true;
    // Its number may be another's from now on.
    this.#warden?.kill("SIGKILL");
  }

  #signal(signal: NodeJS.Signals): void {
    const { pid } = this.child;
    if (pid === undefined || this.#ended) return;
    try {
      process.kill(-pid, signal);
    } catch (error) {
      // It has ended by itself: whoever reads from it finds out.
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  }
}
