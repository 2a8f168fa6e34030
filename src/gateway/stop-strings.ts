/**
 * Finds stop strings in text that arrives in pieces. Each string has an automaton (Knuth, Morris and Pratt) whose
 * state is the longest prefix of the string that ends the text so far, so that the outcome does not depend on how
 * the text was cut into pieces, and every character costs amortised constant time per string.
 */
export class StopMatcher {
  readonly #automata: readonly Automaton[];
  #length = 0;

  constructor(stops: readonly string[]) {
    this.#automata = stops.map((stop) => ({ stop, failure: failureTable(stop), state: 0 }));
  }

  /**
   * Takes the next piece. Returns where, in UTF-16 units from the start of all text, the string that is complete
   * first begins (of several complete at once, the longest), or -1.
   */
  push(piece: string): number {
    for (let i = 0; i < piece.length; i++) {
      this.#length++;
      let longest = 0;
      for (const automaton of this.#automata) {
        if (advance(automaton, piece.charCodeAt(i))) longest = Math.max(longest, automaton.stop.length);
      }
      if (longest > 0) return this.#length - longest;
    }
    return -1;
  }

  /** UTF-16 units at the end of the text that may yet become part of a stop string. */
  get undecided(): number {
    return this.#automata.reduce((most, { state }) => Math.max(most, state), 0);
  }
}

interface Automaton {
  readonly stop: string;
  readonly failure: Int32Array;
  state: number;
}

/** One step; true when the string is complete. */
function advance(automaton: Automaton, unit: number): boolean {
  const { stop, failure } = automaton;
  let state = automaton.state;
  while (state > 0 && stop.charCodeAt(state) !== unit) state = failure[state - 1]!;
  if (stop.charCodeAt(state) === unit) state++;
  automaton.state = state;
  return state === stop.length;
}

/** For each prefix, the length of its longest proper prefix that is also its suffix. */
function failureTable(stop: string): Int32Array {
  const table = new Int32Array(stop.length);
  let matched = 0;
  for (let i = 1; i < stop.length; i++) {
    while (matched > 0 && stop.charCodeAt(i) !== stop.charCodeAt(matched)) matched = table[matched - 1]!;
    if (stop.charCodeAt(i) === stop.charCodeAt(matched)) matched++;
    table[i] = matched;
  }
  return table;
}
