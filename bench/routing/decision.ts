import { FlowGuard, type FlowGuardConstants } from "#streamserve/policy/flow-guard.js";
import { chainOf, PrefixMap } from "#streamserve/policy/prefix-map.js";
import { seededRandom } from "../load/arrivals.js";

export const CONSTANTS: FlowGuardConstants = {
  policy: "flowguard",
  fused: false,
  prefillPace: { fixedMs: 8, firstMs: 80, secondMs: 3 },
  decodePace: { fixedMs: 8, firstMs: 0.1, secondMs: 0.3 },
  maxRows: 128,
  stepTokens: 2048,
  handOffBlockMs: 0,
  staleMs: 200,
  missingBlockMs: 50,
  nearShare: 0.02,
  burden: 6,
  firstTokenWeight: 4,
  othersShare: 0.2,
  unevenShare: 15,
  directTokens: 128,
  directCaution: 12,
  balanced: true,
  lendPressure: 2,
  lendSteps: 10,
};

export interface DecisionTimes {
  /** Microseconds: among the pairs with all signals known; of that, naming the prompt's prefix and looking it up. */
  readonly chooseUs: number[];
  readonly prefixUs: number[];
}

/** Times decisions among `lanes` / 2 pairs with pools of their own, prompts of `promptTokens` that many pools know. */
export function timeDecisions(lanes: number, promptTokens: number, count: number): DecisionTimes {
  const pairs = lanes / 2;
  const random = seededRandom(1);
  const guard = new FlowGuard(
    pairs,
    CONSTANTS,
    Array.from({ length: pairs }, (_, pair) => pair),
  );
  const grainTokens = 128;
  const prefixes = new PrefixMap({ pools: pairs, grainTokens, poolGrains: 1000, most: 100_000 });
  const last = { rows: 8, tokens: 500, contextTokens: 4000, ms: 50 };
  for (let pair = 0; pair < pairs; pair++) {
    const queuedTokens = Math.floor(random() * 4000);
    const none = { busyMs: 0, keptRows: 0, keptContext: 0, keptTaken: 0 };
    const prefill = { queuedTokens, contextTokens: 500, taken: 0, ended: 0, last, lateMs: 5, stepForMs: 10 };
    guard.prefill(pair, { ...prefill, ...none }, 0);
    const contextTokens = Math.floor(random() * 20_000);
    const rows = Math.floor(random() * 30);
    const decode = { rows, queuedTokens: 0, taken: 0, last, contextTokens, stepForMs: 10 };
    guard.decode(pair, { ...decode, drawnPerRow: 1.2, spareBlocks: 1000 }, 0);
  }
  const prompts = Array.from({ length: 50 }, () =>
    Uint32Array.from({ length: promptTokens }, () => Math.floor(random() * 32_000)),
  );
  for (const prompt of prompts) {
    const chain = chainOf(prompt, grainTokens, 0);
    for (let copy = 0; copy < 16; copy++) prefixes.sent(Math.floor(random() * pairs), chain);
  }
  const chooseUs: number[] = [];
  const prefixUs: number[] = [];
  for (let i = 0; i < count; i++) {
    const prompt = prompts[i % prompts.length]!;
    const before = performance.now();
    const cached = prefixes.cached(chainOf(prompt, grainTokens, 0));
    const between = performance.now();
    const query = { promptTokens, outputTokens: 100, blocks: 40, cached };
    const choice = guard.choose(query, i);
    if (choice) guard.sent(choice.pair, query, i);
    prefixUs.push((between - before) * 1000);
    chooseUs.push((performance.now() - between) * 1000);
  }
  return { chooseUs, prefixUs };
}
