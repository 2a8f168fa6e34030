import { StreamServeError } from "../errors.js";

/** Exit status of a command that failed, and of one that was not understood. */
export const FAILED = 1;
export const MISUSED = 2;

/**
 * Prints a failure as one line, `code: sentence`, and sets the exit status. An error without a code is a fault
 * of the program: its stack is shown when STREAMSERVE_DEBUG is set.
 */
export function explain(error: unknown): void {
  process.exitCode = FAILED;
  if (error instanceof StreamServeError) {
    process.stderr.write(`${error.code}: ${error.message}\n`);
    return;
  }
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(`internal: ${message} (set STREAMSERVE_DEBUG=1 to see where)\n`);
  if (process.env.STREAMSERVE_DEBUG && error instanceof Error) {
    process.stderr.write(`${error.stack}\n`);
  }
}
