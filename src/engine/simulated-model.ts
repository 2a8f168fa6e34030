import type { Sampling } from "./engine.js";

/**
 * The model behind the simulated engine: not a language model, but a function from tokens to tokens that is
 * as unforgiving as one. What the KV holds for a position depends on everything before it, and every token
 * drawn depends on all of the KV: one wrong, missing or foreign cell changes what comes out.
 */
export interface SimulatedModel {
  /** Two models of different seeds have nothing in common. */
  readonly seed: number;
  readonly vocabulary: number;
  /** Share of positions, 0 to 1, where the next token follows from the last one alone: there a suffix look-up can guess it. */
  readonly draftability: number;
  /**
   * What a request answers, where that was recorded: the token at output index `index` of the request whose sampling
   * seed is `request`. Undefined: drawn as above.
   */
  readonly written?: (request: number, index: number) => number | undefined;
}

/** Mixes two 32-bit words into one (the finaliser of MurmurHash3 over their combination). */
export function mix(a: number, b: number): number {
  let h = (Math.imul(a, 0x9e3779b1) + b) | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

const floatWords = new Uint32Array(2);
const floatView = new Float64Array(floatWords.buffer);

function mixFloat(hash: number, value: number): number {
  floatView[0] = value;
  return mix(mix(hash, floatWords[0] as number), floatWords[1] as number);
}

/** The KV cell of `token` behind cells whose sum is `sum`. */
export function kvCell(model: SimulatedModel, sum: number, token: number): number {
  return mix(mix(model.seed, sum), token);
}

/** A 32-bit digest of everything in `sampling`: a parameter lost on the way changes every token. */
export function samplingDigest(sampling: Sampling): number {
  let hash = 1;
  const { temperature, topK, topP, minP, repetitionPenalty, presencePenalty, frequencyPenalty } = sampling;
  const numbers = [temperature, topK, topP, minP, repetitionPenalty, presencePenalty, frequencyPenalty];
  for (const value of numbers) hash = mixFloat(hash, value);
  hash = mixFloat(mixFloat(mixFloat(hash, sampling.seed), sampling.minTokens), sampling.logprobs);
  for (const id of sampling.stopIds) hash = mix(hash, id);
  // Biases travel as f32.
  for (const [id, bias] of sampling.logitBias) hash = mixFloat(mix(hash, id), Math.fround(bias));
  return hash;
}

export interface Draw {
  readonly token: number;
  readonly stopped: boolean;
  readonly logprob: number;
}

/**
 * The token at output index `index`, after `last`, when the KV cells sum up to `sum`. Its log-probability
 * depends on every bit of the sum, so that a wrong cell shows even where the token happens to be right.
 */
export function draw(
  model: SimulatedModel,
  sampling: Sampling,
  digest: number,
  sum: number,
  last: number,
  index: number,
): Draw {
  const hash = mix(mix(sum, digest), model.seed);
  const follows = (hash >>> 8) / 2 ** 24 < model.draftability;
  const written = model.written?.(sampling.seed, index);
  let token = written ?? (follows ? mix(model.seed, last) : mix(hash, last)) >>> 0;
  token %= model.vocabulary;
  const mayStop = index >= sampling.minTokens;
  // Ids that may not be drawn give way to the next one; `stopIds` never covers the vocabulary.
  while (!mayStop && sampling.stopIds.includes(token)) token = (token + 1) % model.vocabulary;
  const logprob = Math.fround((-8 * (hash >>> 0)) / 2 ** 32);
  return { token, stopped: mayStop && sampling.stopIds.includes(token), logprob };
}

/** What a request must answer, computed from its tokens alone: the truth that streams are compared with. */
export interface Answer {
  readonly ids: readonly number[];
  readonly logprobs: readonly number[];
  /** True when the last token is a stop id; else the answer has `maxTokens` tokens. */
  readonly stopped: boolean;
}

/** Computes the whole answer without any KV, batch, lane or actor. */
export function answerOf(
  model: SimulatedModel,
  prompt: ArrayLike<number>,
  sampling: Sampling,
  maxTokens: number,
): Answer {
  const digest = samplingDigest(sampling);
  let sum = 0;
  for (let i = 0; i < prompt.length; i++) sum = (sum + kvCell(model, sum, prompt[i] as number)) | 0;
  const ids: number[] = [];
  const logprobs: number[] = [];
  let last = prompt[prompt.length - 1] as number;
  let stopped = false;
  while (ids.length < maxTokens && !stopped) {
    const drawn = draw(model, sampling, digest, sum, last, ids.length);
    ids.push(drawn.token);
    logprobs.push(drawn.logprob);
    stopped = drawn.stopped;
    last = drawn.token;
    sum = (sum + kvCell(model, sum, last)) | 0;
  }
  return { ids, logprobs, stopped };
}
