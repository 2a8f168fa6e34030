import type { TraceRequest } from "#streamserve/simulate/serving/trace.js";
import { seededRandom } from "../load/arrivals.js";
import { mixedTrace } from "../prefix-cache/mixture.js";

/** A request of a routing scenario. */
export interface RoutedRequest {
  readonly atMs: number;
  readonly prompt: Uint32Array;
  readonly outputTokens: number;
}

export interface RoutingScenario {
  readonly name: string;
  readonly about: string;
  /** Round robin is expected to be far worse here. */
  readonly skewed: boolean;
  /** Requests for so many pairs. */
  readonly requests: (pairs: number, count: number, seed: number) => RoutedRequest[];
  /** How many times longer the steps of a pair take; 1 when absent. */
  readonly slowness?: (pair: number) => number;
  /** Requests a pair with which it has shown all that it is. */
  readonly enough: number;
}

/** Some seconds of arrivals. */
const SOME = 50;

export const VOCABULARY = 32_000;
/** Blocks of made-up prefixes, in tokens. */
const BLOCK_TOKENS = 64;

const LONGEST_PROMPT = 12_000;

/** Requests a pair in either kind of phase. */
const PHASE_MS = 20_000;
const ANSWERS_A_SECOND = 8;
const PROMPTS_A_SECOND = 3;

type Random = () => number;

export const exponential = (random: Random, mean: number) => -Math.log(1 - random()) * mean;

/** Log-normal around `middle`, at most `most`. */
export function length(random: Random, middle: number, spread: number, most: number): number {
  const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return Math.min(most, Math.max(1, Math.round(middle * Math.exp(spread * normal))));
}

/** Tokens that no other prompt has. */
export function fresh(random: Random, count: number): Uint32Array {
  return Uint32Array.from({ length: count }, () => Math.floor(random() * VOCABULARY));
}

export function joined(first: Uint32Array, second: Uint32Array): Uint32Array {
  const all = new Uint32Array(first.length + second.length);
  all.set(first);
  all.set(second, first.length);
  return all;
}

/** Arrivals of a Poisson process. */
export function poisson(
  count: number,
  perSecond: number,
  seed: number,
  make: (random: Random) => Omit<RoutedRequest, "atMs">,
): RoutedRequest[] {
  const random = seededRandom(seed);
  let atMs = 0;
  return Array.from({ length: count }, () => {
    atMs += exponential(random, 1000 / perSecond);
    return { atMs, ...make(random) };
  });
}

export const ordinary = (random: Random): Omit<RoutedRequest, "atMs"> => ({
  prompt: fresh(random, length(random, 600, 1, 6000)),
  outputTokens: length(random, 120, 0.6, 600),
});

export const ROUTING_SCENARIOS: readonly RoutingScenario[] = [
  {
    name: "mixed",
    about: "prompts and answers of all lengths, nothing shared",
    skewed: false,
    enough: SOME,
    requests: (pairs, count, seed) => poisson(count, 8 * pairs, seed, ordinary),
  },
  {
    name: "prefixes",
    about: "chats, agents, documents and templates that repeat what came before",
    skewed: false,
    enough: SOME,
    requests: (pairs, count, seed) => sessions(pairs, count, seed),
  },
  {
    name: "bursts",
    about: "sixteen a pair at once, then rest",
    skewed: false,
    enough: SOME,
    requests: (pairs, count, seed) => {
      const random = seededRandom(seed);
      const burst = 16 * pairs;
      return Array.from({ length: count }, (_, i) => ({
        atMs: 2500 * Math.floor(i / burst) + random() * 20,
        ...ordinary(random),
      }));
    },
  },
  {
    name: "long tail",
    about: "one prompt in ten is 8,000 tokens, the others 60",
    skewed: true,
    enough: SOME,
    requests: (pairs, count, seed) =>
      poisson(count, 8 * pairs, seed, (random) => ({
        prompt: fresh(random, random() < 0.1 ? 8000 : length(random, 60, 0.3, 200)),
        outputTokens: length(random, 100, 0.4, 400),
      })),
  },
  {
    name: "documents",
    about:
      "seven in ten ask about one of 24 documents a pair of 4,000 tokens, a few of them far more than others",
    skewed: true,
    enough: SOME,
    requests: (pairs, count, seed) => {
      const random = seededRandom(seed + 1000);
      const documents = Array.from({ length: 24 * pairs }, () => fresh(random, 4000));
      return poisson(count, 5 * pairs, seed, (own) => {
        if (own() >= 0.7) return ordinary(own);
        // Cubed, so that half the questions are about an eighth of the documents.
        const which = documents[Math.floor(own() ** 3 * documents.length)]!;
        return { prompt: joined(which, fresh(own, 80)), outputTokens: length(own, 100, 0.4, 400) };
      });
    },
  },
  {
    name: "slow pair",
    about: "one pair in two is three times slower",
    skewed: true,
    enough: SOME,
    requests: (pairs, count, seed) => poisson(count, 4 * pairs, seed, ordinary),
    slowness: (pair) => (pair % 2 === 1 ? 3 : 1),
  },
  {
    name: "phases",
    about: "20 s of short prompts with long answers, then 20 s of long prompts with short answers, and again",
    // All pairs are alike: in turn is as good an order as any.
    skewed: false,
    enough: (ANSWERS_A_SECOND + PROMPTS_A_SECOND) * (PHASE_MS / 1000),
    requests: (pairs, count, seed) => phases(pairs, count, seed),
  },
];

/** Decode-heavy and prefill-heavy work in turns, each more than one kind of lane can serve well. */
function phases(pairs: number, count: number, seed: number): RoutedRequest[] {
  const random = seededRandom(seed);
  const requests: RoutedRequest[] = [];
  for (let atMs = 0; requests.length < count; ) {
    const answers = Math.floor(atMs / PHASE_MS) % 2 === 0;
    const perSecond = (answers ? ANSWERS_A_SECOND : PROMPTS_A_SECOND) * pairs;
    requests.push({
      atMs,
      prompt: fresh(random, answers ? length(random, 150, 0.5, 600) : length(random, 4000, 0.2, 8000)),
      outputTokens: answers ? length(random, 550, 0.3, 1000) : length(random, 20, 0.3, 60),
    });
    atMs += exponential(random, 1000 / perSecond);
  }
  return requests;
}

/** A trace of sessions with its prompts spelt out. */
function sessions(pairs: number, count: number, seed: number): RoutedRequest[] {
  const trace = mixedTrace({
    requests: count,
    seed,
    blockTokens: BLOCK_TOKENS,
    sessionsPerSecond: 0.5 * pairs,
    shares: [0.4, 0.15, 0.15, 0.25, 0.05],
    scale: 1,
  });
  const random = seededRandom(seed + 2000);
  const blocks = new Map<number, Uint32Array>();
  const spell = (id: number): Uint32Array => {
    const known = blocks.get(id);
    if (known) return known;
    const made = fresh(random, BLOCK_TOKENS);
    blocks.set(id, made);
    return made;
  };
  const spelt = ({ atMs, inputTokens, outputTokens, chain }: TraceRequest): RoutedRequest => {
    const prompt = new Uint32Array(Math.max(1, inputTokens));
    chain.forEach((id, i) => {
      prompt.set(spell(id), i * BLOCK_TOKENS);
    });
    const rest = chain.length * BLOCK_TOKENS;
    for (let at = rest; at < prompt.length; at++) prompt[at] = Math.floor(random() * VOCABULARY);
    return { atMs, prompt, outputTokens: Math.min(600, outputTokens) };
  };
  // The longest conversations would not fit the context.
  return trace.filter(({ inputTokens }) => inputTokens <= LONGEST_PROMPT).map(spelt);
}
