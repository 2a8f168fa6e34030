import { ENTRY_BYTES, entriesFor, Successors, Suffix } from "./successors.js";

/**
 * Longest suffix that is kept of known answers, and entries at most: of 45,000 tokens longer suffixes and more entries
 * gained nothing further, and 1 MB stays in the cache beside the weights.
 */
const LONGEST = 4;
const MOST_ENTRIES = 1 << 16;

/**
 * An empty table for answers of so many tokens that the model gave elsewhere, to be shared by the lanes of all threads: they
 * draft from it for tenants whose own outputs say little yet. At most `MOST_ENTRIES` of 16 bytes.
 */
export function answersTable(tokens: number): SharedArrayBuffer {
  return new SharedArrayBuffer(entriesFor(tokens, LONGEST, MOST_ENTRIES) * ENTRY_BYTES);
}

/** Adds an answer. By one thread only; others may read meanwhile: half an entry makes a bad draft, which is verified. */
export function rememberAnswer(table: SharedArrayBuffer, answer: ArrayLike<number>): void {
  const successors = knownAnswers(table);
  const suffix = new Suffix(LONGEST);
  for (let i = 0; i < answer.length; i++) {
    successors.add(suffix, answer[i]!);
    suffix.push(answer[i]!);
  }
}

/** The table as a drafter looks it up. */
export function knownAnswers(table: SharedArrayBuffer): Successors {
  return new Successors(LONGEST, table.byteLength / ENTRY_BYTES, table);
}
