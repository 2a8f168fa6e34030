import * as z from "zod";
import { StreamServeError } from "../errors.js";

/** What a tokenizer.json that was made from a sentencepiece model says, in sentencepiece's own terms. */

/** GGUF's token types. */
export const UNKNOWN = 2;
export const BYTE = 6;

/** Sentencepiece's mark for a space. */
const SPACE = "\u2581";

/** Whether the token stands for one byte that no piece has. */
export function isByte(token: string): boolean {
  return /^<0x[0-9A-Fa-f]{2}>$/.test(token);
}

/**
 * Of each id the score by which sentencepiece would merge it: the earlier it is made in the list of merges, the higher.
 * Tokens that no merge makes are never compared.
 */
export function mergeScores(
  tokens: readonly string[],
  merges: readonly (string | readonly [string, string])[],
): Float32Array {
  const ranks = new Map<string, number>();
  for (const [rank, merge] of merges.entries()) {
    const made = typeof merge === "string" ? merge.replace(" ", "") : merge.join("");
    if (!ranks.has(made)) ranks.set(made, rank);
  }
  // Ranks are whole numbers far below 2^24, so f32 keeps them.
  return Float32Array.from(tokens, (token) => -(ranks.get(token) ?? merges.length));
}

const replaceSpaces = z.object({
  type: z.literal("Replace"),
  pattern: z.object({ String: z.literal(" ") }),
  content: z.literal(SPACE),
});
const prepend = z.object({ type: z.literal("Prepend"), prepend: z.literal(SPACE) });
const sequence = z.object({ type: z.literal("Sequence"), normalizers: z.array(z.unknown()) });
const metaspace = z.object({
  type: z.literal("Metaspace"),
  replacement: z.literal(SPACE),
  prepend_scheme: z.enum(["first", "always", "never"]).optional(),
  add_prefix_space: z.boolean().optional(),
});
/** Gemma's: spaces have been replaced before, so that it cuts nothing. */
const idle = z.object({ type: z.literal("Split"), pattern: z.object({ String: z.literal(" ") }) });

/**
 * Whether a space goes before the text. Throws `model_tokenizer_unsupported` for a normaliser or pre-tokenizer that does
 * anything else than mark spaces.
 */
export function spacePrefix(normalizer: unknown, preTokenizer: unknown): boolean {
  const several = sequence.safeParse(normalizer);
  const steps = several.success ? several.data.normalizers : [normalizer ?? []].flat();
  let prefixed = false;
  for (const step of steps) {
    if (prepend.safeParse(step).success) prefixed = true;
    else if (!replaceSpaces.safeParse(step).success) throw unsupported("normalises text", step);
  }
  if (preTokenizer === null || preTokenizer === undefined || idle.safeParse(preTokenizer).success) {
    return prefixed;
  }
  const marked = metaspace.safeParse(preTokenizer);
  if (!marked.success) throw unsupported("cuts text", preTokenizer);
  const { prepend_scheme, add_prefix_space } = marked.data;
  return prefixed || (prepend_scheme ?? (add_prefix_space === false ? "never" : "always")) !== "never";
}

function unsupported(does: string, part: unknown): StreamServeError {
  const typed = z.object({ type: z.string() }).safeParse(part);
  const kind = typed.success ? typed.data.type : "no known type";
  return new StreamServeError(
    "model_tokenizer_unsupported",
    `The model's tokenizer.json ${does} in a way that is not known here (${kind}).`,
  );
}
