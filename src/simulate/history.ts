import { mix } from "../engine/simulated-model.js";

/** One thing that happened in a run. */
export interface HistoryEvent {
  readonly number: number;
  readonly atMs: number;
  readonly actor: string;
  /** What happened to the actor: a message's type and sender, a timer, a job's end, its death. */
  readonly what: string;
}

/** The run so far: a hash over all of it, and its last events in words. */
export class History {
  readonly #last: HistoryEvent[] = [];
  #number = 0;
  #low = 1;
  #high = 2;

  /** `keep`: how many events are kept in words. */
  constructor(readonly keep: number) {}

  get events(): number {
    return this.#number;
  }

  /** 64 bits over every event so far, in hexadecimal: two runs with one hash took the same course. */
  get hash(): string {
    return [this.#high, this.#low].map((word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
  }

  add(atMs: number, actor: string, what: string): void {
    this.#number++;
    const micros = Math.round(atMs * 1000);
    this.#low = mix(this.#low, micros | 0);
    this.#high = mix(this.#high, Math.floor(micros / 2 ** 32));
    this.#mixText(actor);
    this.#mixText(what);
    this.#last[this.#number % this.keep] = { number: this.#number, atMs, actor, what };
  }

  /** The last events, oldest first, one a line. */
  tail(): string[] {
    const events = this.#last.filter((event) => event !== undefined).sort((a, b) => a.number - b.number);
    return events.map(
      ({ number, atMs, actor, what }) =>
        `${String(number).padStart(7)}  ${atMs.toFixed(3).padStart(11)} ms  ${actor.padEnd(18)} ${what}`,
    );
  }

  #mixText(text: string): void {
    for (let i = 0; i < text.length; i++) {
      this.#low = mix(this.#low, text.charCodeAt(i));
      this.#high = mix(this.#high ^ this.#low, i);
    }
  }
}
