/** A failure that the person at the terminal can mend: printed as one sentence, without a stack. */
export class BenchError extends Error {
  override readonly name = "BenchError";
}
