import type { Config } from "../config/schema.js";
import { closeEngine, type EngineInfo, openEngine } from "../engine/native-engine.js";
import { packedCache } from "../engine/packed-cache.js";
import { isPackedStrings, unpackStrings } from "../engine/packed-strings.js";
import { StreamServeError } from "../errors.js";
import { readModelMetadata } from "../model/model-metadata.js";

/** A draft model that is open beside the model it drafts for. */
export interface DraftModel {
  readonly engine: EngineInfo;
  readonly path: string;
}

const KEY = "speculation.draftModel";
const TOKENS = "tokenizer.ggml.tokens";

/**
 * Opens a draft model with a KV pool of its own; compute threads are shared with `engine`, the model at `modelPath`. Throws
 * `config_invalid`, with the key in `details.key`, for one with another vocabulary, and what `openEngine` throws.
 */
export async function openDraftModel(
  config: Config,
  engine: EngineInfo,
  modelPath: string,
  path: string,
): Promise<DraftModel> {
  const { kvTokens, kv, blockTokens, threads, instructionSet } = config.engine;
  const draft = openEngine({
    path,
    kvTokens: config.speculation.draftKvTokens ?? kvTokens,
    kv,
    blockTokens,
    threads,
    instructionSet,
    cache: packedCache(config.engine),
  });
  try {
    const other = await difference(engine, modelPath, draft, path);
    if (other === undefined) return { engine: draft, path };
    throw new StreamServeError(
      "config_invalid",
      `"${KEY}" is ${config.speculation.draftModel ?? path}, whose vocabulary is another than the model's: ${other}. Its drafts would mean other text. Name a model of the same family, or leave the line out.`,
      { key: KEY },
    );
  } catch (error) {
    closeEngine(draft.id);
    throw error;
  }
}

/** How two vocabularies differ, for people; undefined when they are the same. */
async function difference(
  engine: EngineInfo,
  modelPath: string,
  draft: EngineInfo,
  path: string,
): Promise<string | undefined> {
  if (draft.vocabulary !== engine.vocabulary) {
    return `it has ${draft.vocabulary} tokens, and the model ${engine.vocabulary}`;
  }
  const [own, others] = await Promise.all([tokensOf(modelPath), tokensOf(path)]);
  const at = own.findIndex((token, id) => token !== others[id]);
  if (at >= 0)
    return `token ${at} is ${JSON.stringify(others[at])} there, and ${JSON.stringify(own[at])} in the model`;
  return undefined;
}

async function tokensOf(path: string): Promise<readonly unknown[]> {
  const tokens = (await readModelMetadata(path)).get(TOKENS);
  if (isPackedStrings(tokens)) return unpackStrings(tokens);
  return Array.isArray(tokens) ? tokens : [];
}
