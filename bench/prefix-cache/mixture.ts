import type { TraceRequest } from "#streamserve/simulate/serving/trace.js";
import { seededRandom } from "../load/arrivals.js";

/**
 * A made-up mixture of what servers of language models see, as a trace. Of the users' sessions that begin, in a
 * Poisson process, some are
 * - chats: a system prompt of a few dozen applications (Zipf), then turns; each turn repeats all before it;
 * - agents: a long system prompt with tools, then many quick turns;
 * - questions on a document: one long document asked about a few times within minutes;
 * - templates: a few-shot prompt shared by many, with a short question behind it, once;
 * - one-off documents: long, never seen again. They sweep a least-recently-used cache clean.
 */
export interface MixtureOptions {
  readonly requests: number;
  readonly seed: number;
  readonly blockTokens: number;
  /** Sessions that begin, a second. */
  readonly sessionsPerSecond: number;
  /** Share of sessions of each kind, in the order above. */
  readonly shares: readonly [chat: number, agent: number, question: number, template: number, once: number];
  /** Factor on all lengths. */
  readonly scale: number;
}

interface Kind {
  /** Shared prompts to choose from, how long they are in tokens, and how unevenly they are used (Zipf exponent). */
  readonly prompts: number;
  readonly promptTokens: number;
  readonly skew: number;
  /** Mean number of turns; tokens added a turn by user and model; mean milliseconds between turns. */
  readonly turns: number;
  readonly userTokens: number;
  readonly outputTokens: number;
  readonly thinkMs: number;
  /** Tokens of a document of the session's own. */
  readonly documentTokens: number;
}

const KINDS: readonly Kind[] = [
  {
    prompts: 40,
    promptTokens: 400,
    skew: 1,
    turns: 5,
    userTokens: 80,
    outputTokens: 250,
    thinkMs: 45_000,
    documentTokens: 0,
  },
  {
    prompts: 8,
    promptTokens: 2500,
    skew: 1,
    turns: 12,
    userTokens: 300,
    outputTokens: 120,
    thinkMs: 6_000,
    documentTokens: 0,
  },
  {
    prompts: 1,
    promptTokens: 100,
    skew: 1,
    turns: 4,
    userTokens: 60,
    outputTokens: 150,
    thinkMs: 30_000,
    documentTokens: 5000,
  },
  {
    prompts: 200,
    promptTokens: 900,
    skew: 0.9,
    turns: 1,
    userTokens: 100,
    outputTokens: 60,
    thinkMs: 0,
    documentTokens: 0,
  },
  {
    prompts: 1,
    promptTokens: 60,
    skew: 1,
    turns: 1,
    userTokens: 50,
    outputTokens: 200,
    thinkMs: 0,
    documentTokens: 6000,
  },
];

interface Pending {
  atMs: number;
  readonly chain: number[];
  tokens: number;
  turnsLeft: number;
  readonly kind: Kind;
}

/** Blocks of 32 tokens, as the engine's; a server of one GPU at about half its capacity. */
export const SERVER_MIXTURE = {
  blockTokens: 32,
  sessionsPerSecond: 0.5,
  shares: [0.4, 0.1, 0.1, 0.3, 0.1],
  scale: 1,
} as const;

/** As Mooncake's published conversations in shape: blocks of 512 tokens, prompts of some thousands of tokens. */
export const LONG_MIXTURE = {
  blockTokens: 512,
  sessionsPerSecond: 0.5,
  shares: [0.45, 0.1, 0.15, 0.1, 0.2],
  scale: 3,
} as const;

/** Makes the trace: the same for the same options. */
export function mixedTrace(options: MixtureOptions): TraceRequest[] {
  const { blockTokens, scale } = options;
  const random = seededRandom(options.seed);
  const exponential = (mean: number) => -Math.log(1 - random()) * mean;
  // Lengths are log-normal: most near the middle, a few far beyond.
  const length = (middle: number) => {
    const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    return Math.max(1, Math.round(middle * scale * Math.exp(0.5 * normal)));
  };
  let nextId = 0;
  const grow = (pending: Pending, tokens: number) => {
    pending.tokens += tokens;
    while (pending.chain.length < Math.floor(pending.tokens / blockTokens)) pending.chain.push(nextId++);
  };
  const shared = KINDS.map((kind) =>
    Array.from({ length: kind.prompts }, () => {
      const prompt: Pending = { atMs: 0, chain: [], tokens: 0, turnsLeft: 0, kind };
      grow(prompt, length(kind.promptTokens));
      return prompt;
    }),
  );
  const begin = (atMs: number): Pending => {
    const number = drawIndex(options.shares, random);
    const kind = KINDS[number]!;
    const prompts = shared[number]!;
    const weights = prompts.map((_, rank) => (rank + 1) ** -kind.skew);
    const prompt = prompts[drawIndex(weights, random)]!;
    const turnsLeft = 1 + Math.floor(exponential(kind.turns - 1));
    const session: Pending = { atMs, chain: [...prompt.chain], tokens: prompt.tokens, turnsLeft, kind };
    if (kind.documentTokens > 0) grow(session, length(kind.documentTokens));
    return session;
  };
  const queue = new TimeQueue();
  queue.push(begin(0));
  let nextBeginMs = 0;
  const requests: TraceRequest[] = [];
  while (requests.length < options.requests) {
    while (queue.empty || nextBeginMs <= queue.nextMs) {
      nextBeginMs += exponential(1000 / options.sessionsPerSecond);
      queue.push(begin(nextBeginMs));
    }
    const session = queue.pop();
    grow(session, length(session.kind.userTokens));
    const inputTokens = session.tokens;
    const chain = [...session.chain];
    const outputTokens = length(session.kind.outputTokens);
    requests.push({ atMs: session.atMs, inputTokens, outputTokens, chain });
    grow(session, outputTokens);
    if (--session.turnsLeft <= 0) continue;
    session.atMs += 1000 + exponential(session.kind.thinkMs);
    queue.push(session);
  }
  return requests;
}

/** An index, drawn in proportion to the weights. */
function drawIndex(weights: readonly number[], random: () => number): number {
  let ticket = random() * weights.reduce((sum, weight) => sum + weight, 0);
  const at = weights.findIndex((weight) => {
    ticket -= weight;
    return ticket < 0;
  });
  return Math.max(0, at);
}

/** Sessions by the time of their next request (a binary heap). */
class TimeQueue {
  readonly #items: Pending[] = [];

  get empty(): boolean {
    return this.#items.length === 0;
  }

  get nextMs(): number {
    return this.#items[0]!.atMs;
  }

  push(item: Pending): void {
    let place = this.#items.length;
    this.#items.push(item);
    while (place > 0 && this.#items[(place - 1) >> 1]!.atMs > item.atMs) {
      this.#items[place] = this.#items[(place - 1) >> 1]!;
      place = (place - 1) >> 1;
    }
    this.#items[place] = item;
  }

  pop(): Pending {
    const first = this.#items[0]!;
    const last = this.#items.pop()!;
    if (this.#items.length === 0) return first;
    let place = 0;
    for (;;) {
      let below = 2 * place + 1;
      if (below >= this.#items.length) break;
      const right = this.#items[below + 1];
      if (right && right.atMs < this.#items[below]!.atMs) below++;
      if (this.#items[below]!.atMs >= last.atMs) break;
      this.#items[place] = this.#items[below]!;
      place = below;
    }
    this.#items[place] = last;
    return first;
  }
}
