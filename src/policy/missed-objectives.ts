/**
 * Weight of the newest request in a pair's mean: where many come, about the last ten count; where few do, what the ones
 * before it have lost with time, but no single one decides.
 */
const LEAST_NEWEST = 0.1;
const MOST_NEWEST = 1 / 3;
/** What nothing new is heard of counts half as much after this time, in milliseconds: some answers' time. */
const HALF_MS = 2000;
/** Less than this tells no pair from another, in milliseconds. */
const LEAST_MS = 1e-3;

/**
 * What each pair's missed objectives are worth, for one objective: a fading mean, in milliseconds, of the objective of
 * those requests that missed it and of 0 for those that kept it. Predictions come from what steps take; what readers get
 * is slower where a lane's thread rests between steps, rows wait for their turn, or requests are taken back and begin
 * again. Under overload every pair misses: only what one misses beyond the others tells pairs apart.
 */
export class MissedObjectives {
  /** Requests that missed the objective, ever. */
  missed = 0;
  readonly #worth: Float64Array;
  /** When each pair's last request was judged, in milliseconds. */
  readonly #at: Float64Array;
  #sum = 0;

  constructor(pairs: number) {
    this.#worth = new Float64Array(pairs);
    this.#at = new Float64Array(pairs);
  }

  /** A request of this pair was promised `objectiveMs`, and missed it or did not. */
  observe(pair: number, objectiveMs: number, missed: boolean, now: number): void {
    if (missed) this.missed++;
    const before = this.#worth[pair]!;
    const newest = Math.min(MOST_NEWEST, Math.max(LEAST_NEWEST, 1 - this.#share(pair, now)));
    this.#set(pair, before + ((missed ? objectiveMs : 0) - before) * newest);
    this.#at[pair] = now;
  }

  /** Forgets what the pair missed: it has a new lane. */
  reset(pair: number): void {
    this.#set(pair, 0);
  }

  /** True while any pair may have missed more than others. */
  get any(): boolean {
    return this.#sum > 0;
  }

  /** What the pair missed lately beyond the mean of the others, in milliseconds of the objective; 0 or more. */
  aboveMs(pair: number, now: number): number {
    const worth = this.#worth[pair]!;
    if (worth === 0) return 0;
    const others = (this.#sum - worth) / Math.max(1, this.#worth.length - 1);
    return Math.max(0, worth * this.#share(pair, now) - others);
  }

  /** What is left of a pair's mean. */
  #share(pair: number, now: number): number {
    return HALF_MS / (HALF_MS + Math.max(0, now - this.#at[pair]!));
  }

  #set(pair: number, worth: number): void {
    // What is left of rounding, or of long ago, is nothing.
    const after = worth > LEAST_MS ? worth : 0;
    this.#sum = Math.max(0, this.#sum + after - this.#worth[pair]!);
    this.#worth[pair] = after;
  }
}
