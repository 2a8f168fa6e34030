import { type ServingRuntime, startOver } from "#streamserve/actors/start.js";
import { type Config, configSchema } from "#streamserve/config/schema.js";
import { closeEngine, openEngine } from "#streamserve/engine/native-engine.js";

/** One way to speculate, with actors of its own to run it. */
export interface House {
  readonly name: string;
  /** Drafts a row and step; undefined: SpecuStream decides; else it does too, without what the name says. */
  readonly depth: number | Without | undefined;
  readonly runtime: ServingRuntime;
}

/** What SpecuStream may have to do without, for comparison. */
export type Without = "no draft model" | "no known answers";

/** Houses over one engine: they share weights and the KV of prompts, and idle ones cost nothing. */
export interface Street {
  readonly houses: readonly House[];
  close(): Promise<void>;
}

/** Holds the prompts of all sets and what runs on top, so that a prompt is prefilled once and found again. */
const KV_TOKENS = 98_304;

/** Long enough that the company of a moment does not make steps of some size look dear; fixed depths need no times. */
const CALIBRATE_MS = 3000;

/** No request is refused for an objective: what is measured is decoding. */
const ALL_ADMITTED = { interactive: { ttftMs: 0, tpotMs: 0 } };

/**
 * Suffixes that fixed depths draft from: with one token, which SpecuStream takes when that pays, they would propose
 * something at nearly every step, and be worse than they need be.
 */
const FIXED_SHORTEST_SUFFIX = 2;

/**
 * Starts SpecuStream, with a draft model if there is one, the same without each of `without`, and each fixed depth side by side.
 * `knownAnswers`: as `speculation.knownAnswers`.
 */
export async function openStreet(
  path: string,
  threads: number,
  depths: readonly number[],
  without: readonly Without[],
  draftPath?: string,
  knownAnswers?: string,
): Promise<Street> {
  const draft =
    draftPath === undefined
      ? undefined
      : { engine: openEngine({ path: draftPath, kvTokens: KV_TOKENS, threads }), path: draftPath };
  const engine = openEngine({ path, kvTokens: KV_TOKENS, threads });
  const houses: House[] = [];
  const close = async () => {
    for (const { runtime } of houses) await runtime.stop();
    closeEngine(engine.id);
    if (draft) closeEngine(draft.engine.id);
  };
  try {
    for (const depth of [undefined, ...without, ...depths]) {
      const config = configSchema.parse({
        model: path,
        scheduler: ALL_ADMITTED,
        speculation: {
          ...speculation(depth),
          knownAnswers: depth === "no known answers" ? undefined : knownAnswers,
        },
        stepCost: { calibrateMs: typeof depth === "number" ? 0 : CALIBRATE_MS },
      });
      const name = typeof depth === "number" ? `depth ${depth}` : (depth ?? "adaptive");
      const lanes = 2 * config.pairs + 1;
      const model = depth === undefined || depth === "no known answers" ? draft : undefined;
      const runtime = await startOver(config, engine, lanes * houses.length, undefined, model);
      houses.push({ name, depth, runtime });
    }
  } catch (error) {
    await close();
    throw error;
  }
  return { houses, close };
}

function speculation(depth: House["depth"]): Partial<Config["speculation"]> {
  if (typeof depth !== "number") return {};
  if (depth === 0) return { maxDepth: 0 };
  return { maxDepth: depth, fixedDepth: depth, shortestSuffix: FIXED_SHORTEST_SUFFIX };
}
