import { simulateServing } from "#streamserve/simulate/serving/simulate-serving.js";
import { seededRandom } from "../load/arrivals.js";
import { a800Pairs, workloadOf } from "../routing/pairs.js";
import { fresh, joined, length, ordinary, poisson, type RoutedRequest } from "../routing/scenarios.js";
import { type Objective, type Outcome, outcomeOf } from "./outcome.js";
import type { Part, Substitute } from "./parts.js";
import { type Compared, compareRounds, type Rounds } from "./rounds.js";

/**
 * The same comparison over simulated A800 pairs that run a 7B model: a quarter of the requests ask about one of a few
 * documents, one in fourteen brings a prompt of 8,000 tokens, the others are of all lengths.
 */

/** Requests a second that a pair can serve, found by trial: beyond it the whole system refuses. */
const PAIR_RATE = 7;
/** Text as easy to draft as some of our sets: tokens that come again, and follow from the last alone so often. */
const DRAFTABILITY = 0.7;
const VOCABULARY = 1024;
const DOCUMENTS = 12;
const OBJECTIVE: Objective = { ttftMs: 2000, tpotMs: 50 };
/** Pairs of a part that needs but one: routers have a choice of as many. */
const PAIRS_OF_ONE = 2;

export interface SimulatedOptions extends Rounds {
  /** Requests of a run at full load and two pairs. */
  readonly requests: number;
}

export async function compareSimulated(
  parts: readonly Part[],
  options: SimulatedOptions,
  progress: (text: string) => void,
): Promise<{ compared: Compared[]; objective: Objective }> {
  const compared: Compared[] = [];
  for (const part of parts) {
    const measure = async (rival: Substitute, round: number) =>
      simulate(part, rival, round, options.requests);
    const found = await compareRounds(part, options, measure, progress);
    compared.push(...found);
    progress(`${part.name}: simulated`);
  }
  return { compared, objective: OBJECTIVE };
}

function simulate(part: Part, rival: Substitute, round: number, count: number): Outcome {
  const pairs = Math.max(part.pairs, PAIRS_OF_ONE);
  const setup = a800Pairs(pairs * (rival.pairsFor ?? 1), {
    ...rival.settings,
    scheduler: { interactive: OBJECTIVE, ...rival.settings.scheduler },
  });
  const requests = arrivals(pairs, Math.ceil(count * part.load), PAIR_RATE * part.load, round);
  const drawn = { vocabulary: VOCABULARY, draftability: DRAFTABILITY };
  const served = simulateServing({ ...setup, drawn }, workloadOf(requests)).requests;
  return outcomeOf(
    served.map(({ atMs, totalMs, ttftMs, tpotMs, outputTokens, outcome }) => ({
      cameMs: atMs,
      endedMs: atMs + totalMs,
      firstTokenMs: ttftMs,
      tokenMs: tpotMs,
      outputTokens,
      done: outcome === "done",
    })),
    OBJECTIVE,
  );
}

function arrivals(pairs: number, count: number, perPair: number, seed: number): RoutedRequest[] {
  const random = seededRandom(1000 + seed);
  const documents = Array.from({ length: DOCUMENTS * pairs }, () => fresh(random, 4000));
  const all = poisson(count, perPair * pairs, seed, (own) => {
    const kind = own();
    if (kind < 0.25) {
      const which = documents[Math.floor(own() ** 3 * documents.length)]!;
      return { prompt: joined(which, fresh(own, 80)), outputTokens: length(own, 100, 0.4, 400) };
    }
    if (kind < 0.32) return { prompt: fresh(own, 8000), outputTokens: length(own, 100, 0.4, 400) };
    return ordinary(own);
  });
  return all.map((one) => ({ ...one, prompt: one.prompt.map((id) => id % VOCABULARY) }));
}
