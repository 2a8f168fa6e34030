import { execFile } from "node:child_process";
import { promisify } from "node:util";

/** The command line, compiled. */
export const CLI = new URL("../dist/cli/main.js", import.meta.url).pathname;
const run = promisify(execFile);

/** Runs `streamserve simulate plan` with these arguments, in a process of its own. */
export async function plan(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  try {
    const { stdout, stderr } = await run(process.execPath, [CLI, "simulate", "plan", ...args]);
    return { code: 0, out: stdout, err: stderr };
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
    return { code, out: stdout, err: stderr };
  }
}
