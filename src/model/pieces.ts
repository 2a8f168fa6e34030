/** Pieces of a vocabulary that text is made of: text -> id, with the score of each id. */
export interface Pieces {
  readonly ids: ReadonlyMap<string, number>;
  readonly scores: Float32Array;
  /** UTF-16 units of the longest. */
  readonly longest: number;
}
