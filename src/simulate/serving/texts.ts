import { mix } from "../../engine/simulated-model.js";
import { type Recording, readRecording } from "../../model/recording.js";
import type { Random } from "../random.js";
import type { RequestText } from "./serving.js";

/** The text of a request, and how long it is. */
export interface SizedText {
  readonly promptTokens: number;
  readonly outputTokens: number;
  /** Output tokens that its client asks for, at most; absent: exactly `outputTokens`. */
  readonly maxTokens?: number;
  readonly text: () => RequestText;
}

/** Gives texts one after another. */
export interface TextSource {
  readonly name: string;
  next(): SizedText;
}

/** Ids of simulated tokens are below this. */
export const VOCABULARY = 1 << 16;
/** Added to ids each time a set begins again: odd, so that a text comes back unchanged after 65,536 rounds alone. */
const STRIDE = 7919;

/**
 * A recorded set, in a shuffled order, again and again. Each time round all ids but those that the prompts have in
 * common (the template's) are others, so that a text is not found in a cache, nor drafted, for having been there
 * before; what requests of one round have in common they keep. `mostTokens`: output tokens at which answers are cut.
 */
export function recordedTexts(nameOrPath: string, mostTokens: number, random: Random): TextSource {
  const recording = readRecording(nameOrPath);
  const { requests } = recording;
  const maxTokens = Math.min(mostTokens, recording.maxTokens);
  const common = commonPrefix(recording);
  const order = shuffled(requests.length, random);
  let given = 0;
  return {
    name: recording.set,
    next: () => {
      const { prompt, answer } = requests[order[given % order.length]!]!;
      const shift = STRIDE * Math.floor(given / order.length);
      given++;
      const renamed = (ids: Uint32Array, from: number) =>
        ids.map((id, i) => (i < from ? id : (id + shift) % VOCABULARY));
      return {
        promptTokens: prompt.length,
        outputTokens: Math.min(maxTokens, answer.length),
        maxTokens,
        text: () => ({ prompt: renamed(prompt, common), answer: renamed(answer, 0) }),
      };
    },
  };
}

/** Prompts of random tokens, and answers that no draft foretells: lengths alone matter. */
export function plainTexts(promptTokens: number, outputTokens: number, random: Random): TextSource {
  return {
    name: `${promptTokens}x${outputTokens}`,
    next: () => {
      const seed = random.word();
      return { promptTokens, outputTokens, text: () => ({ prompt: randomTokens(promptTokens, seed) }) };
    },
  };
}

/** Tokens that no other seed gives. */
export function randomTokens(count: number, seed: number): Uint32Array {
  return Uint32Array.from({ length: count }, (_, i) => mix(seed, i) >>> 16);
}

/** Sources drawn by weight. */
export function mixedTexts(sources: readonly { source: TextSource; weight: number }[], random: Random) {
  const total = sources.reduce((sum, { weight }) => sum + weight, 0);
  return (): SizedText & { readonly set: string } => {
    let left = random.unit() * total;
    let chosen = 0;
    while (chosen < sources.length - 1 && left >= sources[chosen]!.weight) left -= sources[chosen++]!.weight;
    const { source } = sources[chosen]!;
    return { set: source.name, ...source.next() };
  };
}

function commonPrefix({ requests }: Recording): number {
  const first = requests[0]!.prompt;
  let common = 0;
  while (common < first.length && requests.every(({ prompt }) => prompt[common] === first[common])) common++;
  return common;
}

function shuffled(count: number, random: Random): number[] {
  const order = Array.from({ length: count }, (_, i) => i);
  for (let last = count - 1; last > 0; last--) {
    const other = random.between(0, last);
    [order[last], order[other]] = [order[other]!, order[last]!];
  }
  return order;
}
