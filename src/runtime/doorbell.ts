/**
 * The one word that wakes a receiver, whatever number of rings lead to it: a sequence count, and a flag that
 * is set while the receiver sleeps. A sender that finds the flag down has nothing to do, so an awake receiver
 * costs no notify call.
 *
 * No wake-up is lost: the receiver raises the flag and then looks at its rings; a sender publishes and then
 * looks at the flag; so one of the two sees the other. A sender that dies between lowering the flag and
 * notifying is made good by its supervisor, which calls `force` on the doorbells of all its neighbours.
 */

const SEQUENCE = 0;
const SLEEPING = 1;

/** Memory for a doorbell: a cache line pair of its own. */
export function createDoorbell(): SharedArrayBuffer {
  return new SharedArrayBuffer(128);
}

export class Doorbell {
  private readonly words: Int32Array;

  constructor(buffer: SharedArrayBuffer) {
    this.words = new Int32Array(buffer);
  }

  /** Wakes the receiver if it sleeps. Call it after publishing. */
  ring(): void {
    if (Atomics.load(this.words, SLEEPING) === 1 && Atomics.exchange(this.words, SLEEPING, 0) === 1) {
      this.force();
    }
  }

  /** Wakes the receiver whatever the flag says. */
  force(): void {
    Atomics.add(this.words, SEQUENCE, 1);
    Atomics.notify(this.words, SEQUENCE);
  }

  /** Sleeps until rung, but not if `idle()` is false once the flag is up, nor longer than `timeoutMs`. */
  park(idle: () => boolean, timeoutMs: number): void {
    const sequence = Atomics.load(this.words, SEQUENCE);
    Atomics.store(this.words, SLEEPING, 1);
    if (idle()) Atomics.wait(this.words, SEQUENCE, sequence, timeoutMs);
    Atomics.store(this.words, SLEEPING, 0);
  }

  /**
   * The same for a thread that may not block: calls `woken` once rung. False, and `woken` is not called, if
   * `idle()` was false. The wait has no time limit and does not keep the process alive; end it by `force`.
   */
  parkAsync(idle: () => boolean, woken: () => void): boolean {
    const sequence = Atomics.load(this.words, SEQUENCE);
    Atomics.store(this.words, SLEEPING, 1);
    if (idle()) {
      const wait = Atomics.waitAsync(this.words, SEQUENCE, sequence);
      if (wait.async) {
        void wait.value.then(() => {
          Atomics.store(this.words, SLEEPING, 0);
          woken();
        });
        return true;
      }
    }
    Atomics.store(this.words, SLEEPING, 0);
    return false;
  }
}
