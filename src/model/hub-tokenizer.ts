import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod";
import type { MetadataValue } from "../engine/metadata.js";
import { StreamServeError } from "../errors.js";
import { namePreTokenizer } from "./hub-pre-tokenizer.js";
import { BYTE, isByte, mergeScores, spacePrefix, UNKNOWN } from "./hub-sentencepiece.js";

/**
 * The tokenizer of a hub model (tokenizer.json, tokenizer_config.json and their neighbours) under the keys that a GGUF
 * file has for it, so that all that follows knows one form alone.
 */

/** Tokenizers of vocabularies of some 250,000 run to 35 MB. */
const MOST_TOKENIZER_BYTES = 128 << 20;
const MOST_CONFIG_BYTES = 16 << 20;
const MOST_TOKENS = 1 << 22;

/** GGUF's token types. */
const NORMAL = 1;
const CONTROL = 3;
const USER_DEFINED = 4;
const UNUSED = 5;

const id = z.number().int().min(0).max(MOST_TOKENS);

const tokenizerSchema = z.object({
  added_tokens: z.array(z.object({ id, content: z.string(), special: z.boolean() })).default([]),
  normalizer: z.unknown().optional(),
  pre_tokenizer: z.unknown().optional(),
  post_processor: z.unknown().optional(),
  model: z.object({
    type: z.string().optional(),
    vocab: z.record(z.string(), id),
    merges: z.array(z.union([z.string(), z.tuple([z.string(), z.string()])])).default([]),
    unk_token: z.string().nullish(),
    byte_fallback: z.boolean().nullish(),
    ignore_merges: z.boolean().nullish(),
  }),
});

const named = z.union([z.string(), z.object({ content: z.string() })]).nullish();
const template = z.union([z.string(), z.array(z.object({ name: z.string(), template: z.string() }))]);
const configSchema = z.object({
  bos_token: named,
  eos_token: named,
  add_bos_token: z.boolean().nullish(),
  chat_template: template.nullish(),
});

const ends = z.object({ eos_token_id: z.union([id, z.array(id)]).nullish() });

type TokenizerFile = z.output<typeof tokenizerSchema>;

/**
 * Metadata under GGUF's `tokenizer.*` keys. Throws `model_tokenizer_unsupported`, naming what is not known here, or
 * `model_file_invalid` for files that are none of the kind.
 */
export function readHubTokenizer(directory: string): ReadonlyMap<string, MetadataValue> {
  const file = read(directory, "tokenizer.json", tokenizerSchema, MOST_TOKENIZER_BYTES);
  if (file === undefined) {
    throw new StreamServeError(
      "model_tokenizer_unsupported",
      `The model ${directory} has no tokenizer.json: save it with the model (tokenizer.save_pretrained).`,
    );
  }
  const { model } = file;
  if ((model.type ?? "BPE") !== "BPE") {
    throw new StreamServeError(
      "model_tokenizer_unsupported",
      `The model's tokenizer.json is of kind "${model.type}"; BPE is supported, byte-level or with byte fallback.`,
    );
  }
  const config = read(directory, "tokenizer_config.json", configSchema, MOST_CONFIG_BYTES);
  const { tokens, types } = tableOf(file);
  const ids = new Map(tokens.map((text, at) => [text, at]));
  const idOf = (token: z.output<typeof named>) =>
    ids.get(typeof token === "string" ? token : (token?.content ?? ""));
  const first = firstToken(file.post_processor);
  const bos = idOf(config?.bos_token ?? first);
  const [eos, eot, eom] = endIds(directory, idOf(config?.eos_token));
  const entries: Entries = [
    ...(model.byte_fallback ? sentencePiece(file, tokens) : byteLevel(file)),
    ["tokenizer.ggml.tokens", tokens],
    ["tokenizer.ggml.token_type", types],
    ["tokenizer.ggml.bos_token_id", bos],
    ["tokenizer.ggml.eos_token_id", eos],
    ["tokenizer.ggml.eot_token_id", eot],
    ["tokenizer.ggml.eom_token_id", eom],
    ["tokenizer.ggml.add_bos_token", config?.add_bos_token ?? (first !== undefined && idOf(first) === bos)],
    ["tokenizer.chat_template", chatTemplate(directory, config?.chat_template)],
  ];
  return new Map(entries.flatMap(([key, value]) => (value === undefined ? [] : [[key, value] as const])));
}

type Entries = [string, MetadataValue | undefined][];

function byteLevel({ model, pre_tokenizer, normalizer }: TokenizerFile): Entries {
  const merges = model.merges.map((merge) => (typeof merge === "string" ? merge : merge.join(" ")));
  return [
    ["tokenizer.ggml.model", "gpt2"],
    ["tokenizer.ggml.pre", namePreTokenizer(pre_tokenizer, normalizer, model.ignore_merges === true)],
    ["tokenizer.ggml.merges", merges],
  ];
}

function sentencePiece(file: TokenizerFile, tokens: readonly string[]): Entries {
  return [
    ["tokenizer.ggml.model", "llama"],
    ["tokenizer.ggml.scores", mergeScores(tokens, file.model.merges)],
    ["tokenizer.ggml.add_space_prefix", spacePrefix(file.normalizer, file.pre_tokenizer)],
  ];
}

/** Id -> text and kind; ids that nobody has are unused. */
function tableOf({ model, added_tokens }: TokenizerFile): { tokens: string[]; types: Int32Array } {
  const given = [
    ...Object.entries(model.vocab),
    ...added_tokens.map(({ content, id }) => [content, id] as const),
  ];
  const size = given.reduce((most, [, at]) => Math.max(most, at + 1), 0);
  if (size > 2 * given.length + 1024) throw invalid("tokenizer.json", "its token ids have wide gaps");
  const tokens = new Array<string>(size).fill("");
  const types = new Int32Array(size).fill(UNUSED);
  for (const [text, at] of given) {
    tokens[at] = text;
    types[at] = model.byte_fallback && isByte(text) ? BYTE : text === model.unk_token ? UNKNOWN : NORMAL;
  }
  for (const { id: at, special } of added_tokens) {
    if (types[at] === NORMAL) types[at] = special ? CONTROL : USER_DEFINED;
  }
  return { tokens, types };
}

/** The ids that end an answer: those of generation_config.json or config.json, or else the tokenizer's own. */
function endIds(directory: string, own: number | undefined): readonly (number | undefined)[] {
  for (const name of ["generation_config.json", "config.json"]) {
    const given = read(directory, name, ends, MOST_CONFIG_BYTES)?.eos_token_id;
    if (given !== undefined && given !== null) {
      const all = typeof given === "number" ? [given] : given;
      // The tokenizer's own first: chat templates mean that one by eos_token.
      return own !== undefined && all.includes(own) ? [own, ...all.filter((at) => at !== own)] : all;
    }
  }
  return [own];
}

/** The token that a post-processor puts before every text, if it does. */
function firstToken(processor: unknown): string | undefined {
  const templates = z.object({
    type: z.literal("TemplateProcessing"),
    single: z.array(z.object({ SpecialToken: z.object({ id: z.string() }).optional() })),
  });
  const sequence = z.object({ type: z.literal("Sequence"), processors: z.array(z.unknown()) });
  const found = templates.safeParse(processor);
  if (found.success) return found.data.single[0]?.SpecialToken?.id;
  const several = sequence.safeParse(processor);
  return several.success ? several.data.processors.map(firstToken).find((at) => at !== undefined) : undefined;
}

function chatTemplate(
  directory: string,
  given: z.output<typeof template> | null | undefined,
): string | undefined {
  if (typeof given === "string") return given;
  const chosen = given?.find(({ name }) => name === "default")?.template;
  return chosen ?? textOf(join(directory, "chat_template.jinja"), MOST_CONFIG_BYTES);
}

function read<T>(directory: string, name: string, schema: z.ZodType<T>, mostBytes: number): T | undefined {
  const text = textOf(join(directory, name), mostBytes);
  if (text === undefined) return undefined;
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw invalid(name, "it is no JSON", cause);
  }
  const parsed = schema.safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw invalid(name, `${issue?.path.join(".")}: ${issue?.message}`, parsed.error);
  }
  return parsed.data;
}

function textOf(path: string, mostBytes: number): string | undefined {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) return undefined;
  if (!found.isFile() || found.size > mostBytes) {
    throw invalid(path, `it is ${found.isFile() ? `larger than ${mostBytes} bytes` : "not a file"}`);
  }
  return readFileSync(path, "utf8");
}

function invalid(name: string, why: string, cause?: unknown): StreamServeError {
  return new StreamServeError(
    "model_file_invalid",
    `The model's ${name} can't be used: ${why}.`,
    {},
    { cause },
  );
}
