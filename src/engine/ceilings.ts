import { native } from "./native-addon.js";

/** What this machine can do at best, per second over all threads: the yardstick of the engine's efficiency. */
export interface Ceilings {
  /** Multiply-adds of int8 by the kernel family's dot instruction. */
  readonly int8Macs: number;
  /** Multiply-adds of f32. */
  readonly f32Macs: number;
  /** Bytes read of a set of `readBytes`. */
  readonly readBytes: number;
}

/**
 * Measures the ceilings of a kernel family ("avx512-vnni", ...). Blocks the calling thread for about half a second.
 * `readBytes`: size of the set to read again and again; as large as the weights, for a large cache may hold them.
 * Throws `native_argument_invalid` for a family that does not run here or numbers out of range.
 */
export function measureCeilings(instructionSet: string, threads: number, readBytes: number): Ceilings {
  const out = new Float64Array(3);
  native((addon) => addon.measureCeilings(instructionSet, threads, readBytes, out));
  const [int8Macs = 0, f32Macs = 0, bytes = 0] = out;
  return { int8Macs, f32Macs, readBytes: bytes };
}
