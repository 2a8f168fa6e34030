import { measureCeilings } from "#streamserve/engine/ceilings.js";

/** What this machine can do at best, all threads together. */
export interface MachineCeilings {
  readonly threads: number;
  /** Kernel family whose int8 instruction was measured. */
  readonly instructionSet: string;
  /** Reading far more than any cache holds, bytes/s. */
  readonly mainMemory: number;
  readonly workingSetBytes: number;
  /** Reading a set as large as the weights again and again, bytes/s: the limit of a decode step. */
  readonly workingSet: number;
  /** Multiply-adds a second. */
  readonly int8: number;
  readonly f32: number;
}

const MAIN_MEMORY_BYTES = 2 ** 30;

export function measureMachine(
  instructionSet: string,
  threads: number,
  workingSetBytes: number,
): MachineCeilings {
  const large = measureCeilings(instructionSet, threads, MAIN_MEMORY_BYTES);
  const small = measureCeilings(instructionSet, threads, workingSetBytes);
  return {
    threads,
    instructionSet,
    mainMemory: large.readBytes,
    workingSetBytes,
    workingSet: small.readBytes,
    int8: Math.max(large.int8Macs, small.int8Macs),
    f32: Math.max(large.f32Macs, small.f32Macs),
  };
}

/** The higher of two measurements of each ceiling: what was reached once can be reached. */
export function higherCeilings(a: MachineCeilings, b: MachineCeilings): MachineCeilings {
  return {
    ...a,
    mainMemory: Math.max(a.mainMemory, b.mainMemory),
    workingSet: Math.max(a.workingSet, b.workingSet),
    int8: Math.max(a.int8, b.int8),
    f32: Math.max(a.f32, b.f32),
  };
}
