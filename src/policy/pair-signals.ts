import { MissedObjectives } from "./missed-objectives.js";
import { Pace, type PacePrior } from "./pace.js";

/** A lane's last step since its report before: what it held and how long it took, in milliseconds; 0: there was none. */
export interface LastStep {
  readonly rows: number;
  readonly tokens: number;
  readonly contextTokens: number;
  readonly ms: number;
}

export interface PrefillSignal {
  /** Tokens waiting or being computed that no cache is expected to hold. */
  readonly queuedTokens: number;
  /** Tokens computed or found, of prompts that are still there. */
  readonly contextTokens: number;
  /** Such tokens taken ever, in this incarnation. */
  readonly taken: number;
  /** Requests ended ever without a hand-off, in this incarnation, but for those it was to keep. */
  readonly ended: number;
  /** Time that its steps of prompts have taken ever, in this incarnation, in milliseconds. */
  readonly busyMs: number;
  /** Requests that it decodes itself or will, tokens in their KV, and how many it took for that ever. */
  readonly keptRows: number;
  readonly keptContext: number;
  readonly keptTaken: number;
  readonly last: LastStep;
  /** How much later than predicted first tokens have come lately, in milliseconds. */
  readonly lateMs: number;
  /** How long its step under way has taken so far, in milliseconds; below 0: none is. */
  readonly stepForMs: number;
}

export interface DecodeSignal {
  readonly rows: number;
  /** Requests taken ever, in this incarnation, but for those that its prefill lane was to keep. */
  readonly taken: number;
  readonly last: LastStep;
  /** Prompt tokens of its rows that are still to be computed there. */
  readonly queuedTokens: number;
  /** Tokens in the KV of its rows. */
  readonly contextTokens: number;
  /** Tokens that a row draws in a step: more than 1 with drafts. */
  readonly drawnPerRow: number;
  /** Blocks that are free or could be evicted. */
  readonly spareBlocks: number;
  /** As a prefill lane's. A lane without one may be silent for long: it has nothing to do, or its readers are slow. */
  readonly stepForMs: number;
}

/** What steps are assumed to take until lanes have reported some. */
export interface AssumedTimes {
  /** By a thousand new tokens, and a million times that one attends to another. */
  readonly prefillPace: PacePrior;
  /** By rows, and a thousand tokens of their context. */
  readonly decodePace: PacePrior;
}

/** A request's way through a pair. */
export interface Way {
  /** Its decode lane computes the prompt too. */
  readonly direct: boolean;
  /** Its prefill lane decodes it too. */
  readonly keep: boolean;
}

/** New tokens a row, with drafts, beyond which a decode step holds a prompt. */
const MOST_ROW_TOKENS = 4;
const NOTHING_DUE = Number.POSITIVE_INFINITY;
/** Time over which a prefill lane's share of busy time is averaged, in milliseconds: some prompts. */
const BUSY_MS = 1000;

/**
 * What is known of each pair: what its lanes last reported, and what has been sent there since. Signals lie in typed
 * arrays, a column each, so that a decision among a thousand pairs is one pass over some kilobytes.
 */
export class PairSignals {
  /** Two bits a pair: prefill lane alive, decode lane alive. */
  readonly alive: Uint8Array;
  readonly prefillPace: Pace;
  readonly decodePace: Pace;
  readonly lateMs: Float64Array;
  /** Times to the first token, and per token after it, that were promised and missed. */
  readonly missedFirst: MissedObjectives;
  readonly missedTokens: MissedObjectives;
  /** When the prefill lane last reported, in milliseconds; below 0: not yet. */
  readonly prefillAt: Float64Array;
  /** Since when each lane has had something to do and said nothing of having done it, in milliseconds; endless: it has not. */
  readonly prefillSince: Float64Array;
  readonly decodeSince: Float64Array;
  /** Tokens in the KV of prompts in the prefill lane, and of rows in the decode lane. */
  readonly prefillContext: Float64Array;
  readonly context: Float64Array;
  readonly keptContext: Float64Array;
  readonly drawn: Float64Array;
  readonly spare: Float64Array;
  readonly blocksSent: Float64Array;
  /** Prompt tokens in a pair's prefill lane or on their way there. */
  readonly ahead: Float64Array;
  /** Prompt tokens in a pair's decode lane or on their way there, that it is to compute. */
  readonly directAhead: Float64Array;
  /** Requests in a pair's lanes or on their way there, but for those that its prefill lane decodes. */
  readonly requests: Float64Array;
  /** Tokens in KV of the rows that the decode lane has, or will have once the prompts before it are computed. */
  readonly rowContext: Float64Array;
  /** Requests in a pair's decode lane. */
  readonly rows: Float64Array;
  readonly #queued: Float64Array;
  readonly #prefillTaken: Float64Array;
  readonly #prefillSent: Float64Array;
  readonly #prefillEnded: Float64Array;
  /** Prompt tokens that a cache is to hold, of requests that the prefill lane has not said it took. */
  readonly #foundSent: Float64Array;
  readonly #busyMs: Float64Array;
  readonly #busyShare: Float64Array;
  readonly #keptRows: Float64Array;
  readonly #keptTaken: Float64Array;
  readonly #keptSent: Float64Array;
  readonly #decodeTaken: Float64Array;
  readonly #decodeSent: Float64Array;
  /** Prompt tokens in a decode lane that it has yet to compute, and such sent since it said so. */
  readonly #directQueued: Float64Array;
  readonly #directSent: Float64Array;
  /** 1: at its last report a step was under way. */
  readonly #decodeWorks: Uint8Array;

  constructor(pairs: number, { prefillPace, decodePace }: AssumedTimes) {
    const column = () => new Float64Array(pairs);
    this.alive = new Uint8Array(pairs).fill(3);
    this.prefillPace = new Pace(pairs, prefillPace);
    this.decodePace = new Pace(pairs, decodePace);
    this.lateMs = column();
    this.missedFirst = new MissedObjectives(pairs);
    this.missedTokens = new MissedObjectives(pairs);
    this.prefillAt = column().fill(-1);
    this.prefillSince = column().fill(Number.POSITIVE_INFINITY);
    this.decodeSince = column().fill(Number.POSITIVE_INFINITY);
    this.prefillContext = column();
    this.context = column();
    this.keptContext = column();
    this.drawn = column().fill(1);
    this.spare = column().fill(Number.POSITIVE_INFINITY);
    this.blocksSent = column();
    this.ahead = column();
    this.directAhead = column();
    this.requests = column();
    this.#queued = column();
    this.#prefillTaken = column();
    this.#prefillSent = column();
    this.#prefillEnded = column();
    this.#foundSent = column();
    this.rowContext = column();
    this.#busyMs = column();
    this.#busyShare = column();
    this.#keptRows = column();
    this.#keptTaken = column();
    this.#keptSent = column();
    this.rows = column();
    this.#decodeTaken = column();
    this.#decodeSent = column();
    this.#directQueued = column();
    this.#directSent = column();
    this.#decodeWorks = new Uint8Array(pairs);
  }

  /** A prefill lane's report. */
  prefill(pair: number, signal: PrefillSignal, now: number): void {
    // A lane that reports is alive: its greeting may have given way to later signals.
    if ((this.alive[pair]! & 1) === 0) this.up(pair, "prefill");
    this.#queued[pair] = signal.queuedTokens;
    this.prefillContext[pair] = signal.contextTokens;
    // What was found goes the way of what was not: the lane counts only that.
    const untold = Math.max(1, this.#prefillSent[pair]! - this.#prefillTaken[pair]!);
    this.#foundSent[pair]! *= Math.max(0, Math.min(1, (this.#prefillSent[pair]! - signal.taken) / untold));
    this.#prefillTaken[pair] = signal.taken;
    // More taken than sent: counted across a restart of this router or the lane. Nothing is under way then.
    if (signal.taken > this.#prefillSent[pair]!) this.#prefillSent[pair] = signal.taken;
    this.#decodeSent[pair]! -= Math.max(0, signal.ended - this.#prefillEnded[pair]!);
    this.#prefillEnded[pair] = signal.ended;
    this.#keptRows[pair] = signal.keptRows;
    this.keptContext[pair] = signal.keptContext;
    this.#keptTaken[pair] = signal.keptTaken;
    if (signal.keptTaken > this.#keptSent[pair]!) this.#keptSent[pair] = signal.keptTaken;
    this.#observeBusy(pair, signal.busyMs, now);
    const { rows, tokens, contextTokens, ms } = signal.last;
    // Each row's tokens attend to its context.
    const attended = (tokens * (contextTokens + tokens / 2)) / Math.max(1, rows);
    this.prefillPace.observe(pair, tokens / 1000, attended / 1e6, ms);
    this.lateMs[pair] = signal.lateMs;
    this.prefillAt[pair] = now;
    this.#sum(pair);
    const { stepForMs } = signal;
    const busy = this.ahead[pair]! > 0 || stepForMs >= 0;
    this.prefillSince[pair] = busy ? now - Math.max(0, stepForMs) : NOTHING_DUE;
    this.#awaitDecode(pair, now);
  }

  /** A decode lane's report. */
  decode(pair: number, signal: DecodeSignal, now: number): void {
    if ((this.alive[pair]! & 2) === 0) this.up(pair, "decode");
    this.rows[pair] = signal.rows;
    this.#decodeTaken[pair] = signal.taken;
    if (signal.taken > this.#decodeSent[pair]!) this.#decodeSent[pair] = signal.taken;
    // A step with a prompt in it is no measure of others.
    const { rows, tokens, contextTokens, ms } = signal.last;
    if (tokens <= MOST_ROW_TOKENS * rows) this.decodePace.observe(pair, rows, contextTokens / 1000, ms);
    this.context[pair] = signal.contextTokens;
    if (signal.drawnPerRow > 0) this.drawn[pair] = Math.max(1, signal.drawnPerRow);
    this.spare[pair] = signal.spareBlocks;
    this.blocksSent[pair] = 0;
    this.#directQueued[pair] = signal.queuedTokens;
    this.#directSent[pair] = 0;
    this.#sum(pair);
    const { stepForMs } = signal;
    this.#decodeWorks[pair] = stepForMs >= 0 ? 1 : 0;
    this.decodeSince[pair] = stepForMs >= 0 ? now - stepForMs : NOTHING_DUE;
    this.#awaitDecode(pair, now);
  }

  /** A lane died. */
  down(pair: number, role: "prefill" | "decode"): void {
    this.alive[pair]! &= role === "prefill" ? 2 : 1;
  }

  /** A lane is up with nothing taken: what was sent to its predecessor is not on its way to it. */
  up(pair: number, role: "prefill" | "decode"): void {
    if (role === "prefill") {
      this.alive[pair]! |= 1;
      this.#queued[pair] = 0;
      this.prefillContext[pair] = 0;
      this.#prefillSent[pair] = 0;
      this.#prefillTaken[pair] = 0;
      this.#prefillEnded[pair] = 0;
      this.#foundSent[pair] = 0;
      this.#busyMs[pair] = 0;
      this.#keptRows[pair] = 0;
      this.keptContext[pair] = 0;
      this.#keptTaken[pair] = 0;
      this.#keptSent[pair] = 0;
      this.lateMs[pair] = 0;
      this.missedFirst.reset(pair);
      // What died in prefill is not on its way to decode either.
      this.#decodeSent[pair] = this.#decodeTaken[pair]!;
      this.prefillAt[pair] = -1;
      this.prefillSince[pair] = NOTHING_DUE;
    } else {
      this.alive[pair]! |= 2;
      this.rows[pair] = 0;
      this.#decodeSent[pair] = 0;
      this.#decodeTaken[pair] = 0;
      this.#directQueued[pair] = 0;
      this.#directSent[pair] = 0;
      this.missedTokens.reset(pair);
      this.#decodeWorks[pair] = 0;
      this.decodeSince[pair] = NOTHING_DUE;
    }
    this.#sum(pair);
  }

  /** A request was sent: it counts as queued there until the lanes' reports include it. */
  sent(
    pair: number,
    uncachedTokens: number,
    foundTokens: number,
    blocks: number,
    { direct, keep }: Way,
    now: number,
  ): void {
    if (!direct && !keep) this.#foundSent[pair]! += foundTokens;
    const column = direct ? this.#directSent : this.#prefillSent;
    column[pair]! += uncachedTokens;
    const rows = keep ? this.#keptSent : this.#decodeSent;
    rows[pair]! += 1;
    this.blocksSent[pair]! += blocks;
    this.#sum(pair);
    if (direct) this.#awaitDecode(pair, now);
    else if (this.prefillSince[pair] === NOTHING_DUE) this.prefillSince[pair] = now;
  }

  /** A decode step of so many rows, of which so many turns hold `context` tokens in KV, at the common pace, in milliseconds. */
  decodeStepMs(rows: number, context: number, turns = 1): number {
    const { fixedMs, firstMs, secondMs } = this.decodePace;
    return fixedMs + firstMs * rows + (secondMs * context) / (1000 * turns);
  }

  /** Requests that the pair's prefill lane decodes, or will. */
  kept(pair: number): number {
    return this.#keptRows[pair]! + Math.max(0, this.#keptSent[pair]! - this.#keptTaken[pair]!);
  }

  /** Share of its time that the prefill lane computes prompts, lately. A lane that is silent is idle, if nothing waits. */
  busyShare(pair: number, now: number): number {
    const share = this.#busyShare[pair]!;
    if (this.ahead[pair]! > 0 || this.prefillAt[pair]! < 0) return share;
    return (share * BUSY_MS) / (BUSY_MS + Math.max(0, now - this.prefillAt[pair]!));
  }

  /** What decisions ask most, worked out when it changes. */
  #sum(pair: number): void {
    this.ahead[pair] =
      this.#queued[pair]! + Math.max(0, this.#prefillSent[pair]! - this.#prefillTaken[pair]!);
    this.directAhead[pair] = this.#directQueued[pair]! + this.#directSent[pair]!;
    // `decodeSent` counts from routing, `taken` from adoption: the difference is in prefill or on its way.
    const coming = Math.max(0, this.#decodeSent[pair]! - this.#decodeTaken[pair]!);
    this.requests[pair] = this.rows[pair]! + coming;
    this.rowContext[pair] =
      this.context[pair]! +
      this.ahead[pair]! +
      this.prefillContext[pair]! +
      this.#foundSent[pair]! +
      this.directAhead[pair]!;
  }

  /**
   * A decode lane that does nothing is to say so when it takes a request: one that was sent straight to it, or that its
   * prefill lane, which has none left, must have handed over.
   */
  #awaitDecode(pair: number, now: number): void {
    if (this.#decodeWorks[pair]) return;
    const handedOver = this.ahead[pair]! + this.prefillContext[pair]! === 0;
    const due = this.#directSent[pair]! > 0 || (handedOver && this.requests[pair]! > this.rows[pair]!);
    if (!due) this.decodeSince[pair] = NOTHING_DUE;
    else if (this.decodeSince[pair] === NOTHING_DUE) this.decodeSince[pair] = now;
  }

  #observeBusy(pair: number, busyMs: number, now: number): void {
    const since = this.prefillAt[pair]!;
    const worked = busyMs - this.#busyMs[pair]!;
    this.#busyMs[pair] = busyMs;
    if (since < 0 || now <= since || worked < 0) return;
    const share = Math.min(1, worked / (now - since));
    const weight = 1 - Math.exp((since - now) / BUSY_MS);
    this.#busyShare[pair]! += (share - this.#busyShare[pair]!) * weight;
  }
}
