/** Something that must never happen has happened. The sentence says what; the run adds when and where. */
export class Violation extends Error {
  override readonly name = "Violation";

  constructor(
    /** The invariant's short name: planted bugs are matched against it. */
    readonly invariant: Invariant,
    sentence: string,
  ) {
    super(sentence);
  }
}

/** What is checked, by name. */
export const INVARIANTS = {
  stream: "tokens arrive once each, in order, and are the right ones",
  credit: "a reader gets no more tokens than it gave credit for",
  ending: "a request ends once, and in a way that its plan allows",
  forgotten: "every request ends in bounded time",
  deadline: "a request with a deadline ends by it",
  pool: "every KV block is free, cached, or held by the sequences that count it",
  release: "the KV of a request that has ended is given back within one step",
  owner: "a lane steps and hands over only sequences that it owns",
  limits: "a lane keeps to the engine's limits",
  class: "while interactive requests run, lanes start no step with offline ones, but for the one in hand",
  share: "tenants that wait side by side are served alike, but for what few requests weigh",
  crash: "no actor fails by itself",
  quiescence: "when all requests have ended nothing is held for any of them",
  replay: "a seed gives the same run each time",
} as const;

export type Invariant = keyof typeof INVARIANTS;
