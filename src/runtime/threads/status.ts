/** What an actor and its system tell each other without messages: words of a SharedArrayBuffer. */

const CONTROLS = 0;
const HALTED = 1;
const STATE = 2;
const WAKES = 3;
const DEAD_LETTERS = 4;
const TRACING = 5;
const RECEIVED = 6;

export const STATES = ["starting", "running", "parked", "collecting", "stopped"] as const;
export type ActorState = (typeof STATES)[number];
const NUMBERS: Readonly<Record<ActorState, number>> = {
  starting: 0,
  running: 1,
  parked: 2,
  collecting: 3,
  stopped: 4,
};

export function createStatus(): SharedArrayBuffer {
  return new SharedArrayBuffer(128);
}

export class Status {
  private readonly words: Int32Array;

  constructor(buffer: SharedArrayBuffer) {
    this.words = new Int32Array(buffer);
  }

  /** Control calls ever made to the actor; its loop returns to its event loop until it has handled them all. */
  get controls(): number {
    return Atomics.load(this.words, CONTROLS);
  }

  addControl(): void {
    Atomics.add(this.words, CONTROLS, 1);
  }

  /** Set when the system is ending: waits for a full mailbox give up. */
  get halted(): boolean {
    return Atomics.load(this.words, HALTED) === 1;
  }

  halt(): void {
    Atomics.store(this.words, HALTED, 1);
  }

  get state(): ActorState {
    return STATES[Atomics.load(this.words, STATE)] ?? "stopped";
  }

  set state(state: ActorState) {
    Atomics.store(this.words, STATE, NUMBERS[state]);
  }

  /** Grows whenever the actor stops being parked. */
  get wakes(): number {
    return Atomics.load(this.words, WAKES);
  }

  addWake(): void {
    Atomics.add(this.words, WAKES, 1);
  }

  get deadLetters(): number {
    return Atomics.load(this.words, DEAD_LETTERS) >>> 0;
  }

  addDeadLetters(count: number): void {
    Atomics.add(this.words, DEAD_LETTERS, count);
  }

  get tracing(): boolean {
    return this.words[TRACING] === 1;
  }

  set tracing(on: boolean) {
    Atomics.store(this.words, TRACING, on ? 1 : 0);
  }

  /** Messages taken by the actor, modulo 2^32. */
  get received(): number {
    return Atomics.load(this.words, RECEIVED) >>> 0;
  }

  /** Called by the actor alone, which need not be exact to the microsecond. */
  addReceived(count: number): void {
    this.words[RECEIVED] = this.words[RECEIVED]! + count;
  }
}
