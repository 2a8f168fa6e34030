import { createInterface } from "node:readline";
import { BenchError } from "../bench-error.js";
import type { Workload } from "../engine/workloads.js";
import { ProcessGroup } from "./process-group.js";

/** Loading, compiling for the processor and warming up included. */
const ANSWER_TIMEOUT_MS = 600_000;
/** Characters of a failed child's last words shown. */
const TAIL_LIMIT = 1500;

export interface ServedPeerOptions {
  readonly name: string;
  readonly program: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/**
 * A peer that stays loaded between runs, and is halted between them with all its processes: threads that spin while they wait
 * for work would take cores from whoever runs meanwhile. The child is given one workload a line and answers with its speed,
 * as python/protocol.py has it. Whatever goes wrong is a BenchError with the child's last words. The caller closes it.
 */
export class ServedPeer {
  readonly #name: string;
  readonly #group: ProcessGroup;
  readonly #lines: AsyncIterator<string>;
  #tail = "";

  constructor({ name, program, args, env }: ServedPeerOptions) {
    this.#name = name;
    this.#group = new ProcessGroup(program, args, { ...process.env, ...env });
    const { child } = this.#group;
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.#tail = (this.#tail + text).slice(-TAIL_LIMIT);
    });
    child.on("error", (error) => {
      this.#tail += error.message;
    });
    // A child that has ended can't be written to: the answer that never comes says so.
    child.stdin.on("error", () => {});
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  /** Waits until it is loaded, and halts it. Returns what it calls itself. */
  async ready(): Promise<string> {
    const { description } = (await this.#answer()) as { description: string };
    this.#group.halt();
    return description;
  }

  /** Runs a workload once, and halts it again. Returns tokens a second. A prompt that does not count goes before a prefill: others ran just now. */
  async run(workload: Workload): Promise<number> {
    this.#group.resume();
    if (workload.kind === "prefill") await this.#ask(workload);
    const tokensPerSecond = await this.#ask(workload);
    this.#group.halt();
    return tokensPerSecond;
  }

  async #ask(workload: Workload): Promise<number> {
    const request =
      workload.kind === "prefill"
        ? { sequences: 1, promptTokens: workload.tokens, outputTokens: 0 }
        : {
            sequences: workload.sequences,
            promptTokens: workload.promptTokens,
            outputTokens: workload.outputTokens,
          };
    this.#group.child.stdin.write(`${JSON.stringify(request)}\n`);
    const { tokensPerSecond } = (await this.#answer()) as { tokensPerSecond: number };
    if (!(tokensPerSecond > 0)) throw new BenchError(`${this.#name} measured no speed.`);
    return tokensPerSecond;
  }

  close(): void {
    this.#group.end();
  }

  async #answer(): Promise<unknown> {
    const timer = setTimeout(() => this.#group.end(), ANSWER_TIMEOUT_MS);
    const line = await this.#lines.next();
    clearTimeout(timer);
    if (line.done) throw new BenchError(`${this.#name} ended. Its last words:\n${this.#tail.trimEnd()}`);
    return JSON.parse(line.value);
  }
}
