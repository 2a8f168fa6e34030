import { ANY_PAIR, type MessageNamed } from "./messages.js";

/** Something that should be in some lane. */
export interface Audited {
  readonly request: number;
  readonly attempt: number;
  /** Where it was routed; ANY_PAIR while that is not known. */
  pair: number;
  /** Serial of the first audit sent after it. */
  readonly auditFrom: number;
  /** Serial of the last audit whose answers named it. */
  seenIn: number;
  /** Serial of the audit that missed it first; 0: none did. */
  missedIn: number;
}

/** What follows from an audit. */
export interface Verdicts<A extends Audited> {
  /** A lane holds it. */
  held(one: A): void;
  /** Two audits in a row found it nowhere. */
  lost(one: A): void;
}

/**
 * Asks all lanes what they hold. The question travels the requests' own way, so a request sent before it has
 * either reached a lane that will name it, has ended, or is lost. A pair has answered when both its lanes have;
 * a request whose pair is not known waits for all of them. One that is missed may just have ended, its last word
 * on the way to the gateway: only when a second audit misses it too is it lost.
 */
export class Audit<A extends Audited> {
  #serial = 0;
  /** By pair: bits of the lanes whose answer is here or will never come (1 prefill, 2 decode). */
  #answers = new Uint8Array(0);
  /** Pairs that have not answered; 0 when no audit is under way. */
  #open = 0;

  /** `gone[pair]`: bits of lanes that will never answer; kept by its owner. */
  constructor(
    readonly running: ReadonlyMap<number, A>,
    readonly gone: Uint8Array,
    readonly verdicts: Verdicts<A>,
  ) {}

  /** Serial of the latest audit. */
  get serial(): number {
    return this.#serial;
  }

  /** True while answers are missing. */
  get underWay(): boolean {
    return this.#open > 0;
  }

  /** Begins an audit; its serial is for the question. One that is under way is given up. */
  begin(): number {
    this.#answers = this.gone.slice();
    this.#open = this.gone.reduce((open, bits) => open + (bits === 3 ? 0 : 1), 0);
    return ++this.#serial;
  }

  /** Takes a lane's answer. True when another audit should follow at once: something was missed. */
  answer(message: MessageNamed<"audited">): boolean {
    if (message.serial !== this.#serial || this.#open === 0) return false;
    message.requests.forEach((request, i) => {
      const one = this.running.get(request);
      if (!one || one.attempt !== message.attempts[i]) return;
      one.seenIn = message.serial;
      one.pair = message.pair;
    });
    return this.heardOf(message.pair, message.role);
  }

  /** Notes that a lane has answered, or never will; true as for `answer`. */
  heardOf(pair: number, role: number): boolean {
    const before = this.#answers[pair];
    if (this.#open === 0 || before === undefined) return false;
    const after = before | (role === 0 ? 1 : 2);
    this.#answers[pair] = after;
    if (before === 3 || after !== 3) return false;
    this.#open--;
    return this.#judge(pair);
  }

  #judge(pair: number): boolean {
    let missed = false;
    for (const one of [...this.running.values()]) {
      const known = one.pair === pair || (one.pair === ANY_PAIR && this.#open === 0);
      if (one.auditFrom > this.#serial || !known) continue;
      if (one.seenIn === this.#serial) {
        one.missedIn = 0;
        this.verdicts.held(one);
      } else if (one.missedIn === 0) {
        one.missedIn = this.#serial;
        missed = true;
      } else {
        this.verdicts.lost(one);
      }
    }
    return missed;
  }
}
