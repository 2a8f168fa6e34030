import {
  defineProtocol,
  f32s,
  f64,
  i32,
  list,
  type MessageOf,
  slab,
  text,
  u8,
  u32,
  u32s,
} from "../runtime/schema.js";

/**
 * Every message between the actors of StreamServe. Whatever concerns a request names it and its attempt: an
 * attempt is one journey through the lanes, and messages of an attempt that is over are ignored by everyone.
 * `generation` is the scheduler's incarnation: lanes drop what an earlier scheduler sent them.
 */

const identity = { request: u32, attempt: u32 };

/** A request as it travels gateway -> scheduler -> router -> prefill lane -> decode lane. */
const journey = {
  ...identity,
  generation: u32,
  /** Laid out by prompt-region.ts; owned by the gateway until the request has ended. */
  prompt: slab,
  /** Token ids to prefill: the prompt and whatever output was delivered before this attempt. */
  promptTokens: u32,
  /** How many of them are the prompt's own; the rest are output. */
  outputFrom: u32,
  stopIds: u32,
  biases: u32,
  /** Output tokens of the whole request, over all attempts, at most. */
  maxTokens: u32,
  /** 0: interactive, 1: offline. */
  class: u8,
  /** Prompt and output tokens that KV is reserved for; a decode lane tells when there are more. */
  reservedTokens: u32,
  /** Whom it is served for (see tenant.ts); 0: nobody in particular. */
  tenant: u32,
  /** Who shares cached prefixes with it: see cache-salt.ts. */
  salt0: f64,
  salt1: f64,
  /** Milliseconds on the system's clock; 0: none. */
  deadline: f64,
  /** Output tokens that the reader takes without a further grant, counted from index 0. */
  creditUpTo: u32,
  /** 1: it was admitted before, in an earlier attempt. */
  resumed: u8,
  temperature: f64,
  topK: u32,
  topP: f64,
  minP: f64,
  repetitionPenalty: f64,
  presencePenalty: f64,
  frequencyPenalty: f64,
  seed: f64,
  minTokens: f64,
  logprobs: i32,
};

/** What a lane reports of itself; the counters only grow within an incarnation. */
const load = {
  /** 0: prefill, 1: decode. */
  role: u8,
  pair: u32,
  rows: u32,
  queued: u32,
  /** Prompt tokens that have not been computed and that no cache is expected to hold, over the lane's requests. */
  queuedTokens: u32,
  /** Such prompt tokens (prefill) or requests (decode) ever taken: tells the router what is still under way. */
  taken: f64,
  /** Requests that ended in a prefill lane, ever: no decode lane will take them. */
  endedHere: f64,
  /** Tokens in the KV over the lane's rows. */
  contextTokens: u32,
  /** How long the step under way has taken so far, in milliseconds; below 0: none is under way. */
  stepForMs: f64,
  /** Requests that a prefill lane decodes itself, or will; tokens in their KV; and how many it ever took for that. */
  keptRows: u32,
  keptContext: u32,
  keptTaken: f64,
  /** Recent time of a step, and recent computing time a token, in milliseconds. */
  stepMs: f64,
  tokenMs: f64,
  steps: f64,
  busyMs: f64,
  /** The last step since the report before: rows, new tokens, tokens in the KV of its rows, milliseconds (0: there was none). */
  lastRows: u32,
  lastTokens: u32,
  lastContext: u32,
  lastMs: f64,
  /** Share of it that ran beside lanes of the other kind. */
  lastShared: f64,
  /** Tokens drawn a row and step, lately. */
  drawnPerRow: f64,
  /** How much later than the router predicted first tokens have come lately, in milliseconds. */
  lateMs: f64,
  /** Recent mean of drafts a row and step. */
  draftDepth: f64,
  /** Drafts verified and held, by drafter (`DRAFTERS`); tokens expected of all steps, and drawn. */
  drafted: f32s,
  held: f32s,
  expectedTokens: f64,
  drawnTokens: f64,
  preemptions: f64,
  /** Blocks of the lane's pool that are free or could be evicted. */
  spareBlocks: u32,
  /** What the lane's steps take, as `StepTimes.toArray` writes it, and how far that was off lately, as a share. */
  cost: f32s,
  costError: f64,
};

export const protocol = defineProtocol({
  // The request's way down.
  submit: journey,
  route: {
    ...journey,
    /** Prompt tokens that the pair's pool is expected to hold, and when the first token is: the router's to set. */
    cached: u32,
    dueAt: f64,
    /** 1: the prefill lane decodes it too. */
    keep: u8,
  },
  handoff: {
    ...journey,
    handle: u32,
    epoch: u32,
    /** 1: the router meant it to stay in the prefill lane. */
    moved: u8,
    cachedTokens: u32,
    /**
     * The tokens that the prefill lane drew, of which all but the last are in the KV: sent to the gateway already, and
     * again by the decode lane's first step.
     */
    ids: u32s,
    tokenLogprobs: f32s,
    topIds: u32s,
    topLogprobs: f32s,
  },
  /** `pair`: where the request is; ANY_PAIR when the sender does not know. `reason`: see CANCEL. */
  cancel: { ...identity, generation: u32, pair: u32, reason: u8 },
  /** Lanes forget everything from generations before this one. */
  reset: { generation: u32 },
  /** Offline work is to wait (1), or may go on (0): lanes start no step with it, and keep its KV. */
  hold: { generation: u32, on: u8 },
  /** Asks every lane which requests it holds; travels the requests' own way, so that it overtakes none. */
  audit: { generation: u32, serial: u32 },

  // The way up.
  /** What a step drew, all rows in one message; the arrays hold the rows one after another. */
  tokens: {
    pair: u32,
    /** 0: prefill, 1: decode. */
    role: u8,
    rows: list({
      ...identity,
      /** Output index of the row's first token. */
      index: u32,
      count: u32,
      /** 0 goes on, 1 stop id, 2 length. Not 0: the sequence has been released, this is the attempt's last word. */
      finish: u8,
      drafts: u32,
      accepted: u32,
      cachedTokens: u32,
      /** Log-probabilities reported for each token: 0 or 1, and how many of the likeliest. */
      logprobs: u8,
      top: u8,
    }),
    ids: u32s,
    logprobs: f32s,
    topIds: u32s,
    topLogprobs: f32s,
  },
  /** The attempt's last word: it failed, and its sequence has been released. */
  failed: { ...identity, code: text, reason: text, retryAfterMs: f64 },
  /** The attempt's last word: nobody holds it any more; the gateway is to submit it again. See LOST. */
  lost: { ...identity, cause: u8 },
  admitted: { ...identity, at: f64 },
  /** The gateway has the attempt's last word: its reservation can be given back. */
  ended: {
    ...identity,
    outputTokens: u32,
    /** How: as `finish` of a token row; 0 when it was not done. */
    finish: u8,
    /** Milliseconds an output token after the first; 0 where that says nothing. */
    tokenMs: f64,
  },
  /** The attempt's first token has reached the gateway. */
  began: { ...identity, at: f64 },
  /** A decoding request holds more tokens than KV was reserved for. */
  grew: { ...identity, generation: u32, tokens: u32 },
  routed: { ...identity, generation: u32, pair: u32 },
  /** A request has missed what its class is promised, or not (0), in this pair. `of`: see PROMISE. */
  judged: { pair: u32, of: u8, objectiveMs: f64, missed: u8 },
  audited: { generation: u32, serial: u32, role: u8, pair: u32, requests: u32s, attempts: u32s },
  /** An actor is up, or up again. */
  hello: { incarnation: u32 },

  // Credit.
  credit: { ...identity, upTo: u32 },
  /** A row waits for credit beyond `upTo`. */
  starved: { ...identity, pair: u32, upTo: u32 },

  // Signals.
  load,
  /** What a decode lane learnt of its drafts since it last said so (`Survival.takeNews`), and what all lanes know. */
  learnt: { pair: u32, news: f32s },
  survival: { probabilities: f32s },

  // Timers: sent by an actor to itself alone.
  tick: {},
  /** What a full mailbox had no room for is to be tried again: see outbox.ts. */
  retry: {},
  deadline: identity,
});

export type AppMessage = MessageOf<typeof protocol>;
export type MessageNamed<T extends AppMessage["type"]> = Extract<AppMessage, { type: T }>;
export type Journey = Omit<MessageNamed<"submit">, "type">;

export const ANY_PAIR = 0xffffffff;
/** `creditUpTo` of a reader that takes everything. */
export const UNLIMITED = 0xffffffff;
export const PREFILL = 0;
export const DECODE = 1;
export const FINISH = { none: 0, stop: 1, length: 2 } as const;
/** Why an attempt is taken back; one that is preempted is to be submitted again. */
export const CANCEL = { client: 0, deadline: 1, superseded: 2, preempted: 3 } as const;
/** What a request is judged by: the time to its first token, or that of a token after it. */
export const PROMISE = { firstToken: 0, token: 1 } as const;
/** Why an attempt was lost. */
export const LOST = { lane: 0, preempted: 1 } as const;
