import * as z from "zod";
import { StreamServeError } from "../errors.js";
import { findPreTokenizer, GPT2_CUT, SINGLE_DIGITS } from "./pre-tokenizers.js";

/** What a tokenizer.json says of how text is cut, under GGUF's name for it. */

const byteLevel = z.object({
  type: z.literal("ByteLevel"),
  add_prefix_space: z.boolean().default(true),
  use_regex: z.boolean().default(true),
});
const digits = z.object({ type: z.literal("Digits"), individual_digits: z.literal(true) });
const split = z.object({
  type: z.literal("Split"),
  pattern: z.object({ Regex: z.string() }),
  behavior: z.enum(["Isolated", "Removed"]),
  invert: z.boolean().default(false),
});
const sequence = z.object({ type: z.literal("Sequence"), pretokenizers: z.array(z.unknown()) });

/**
 * GGUF's name of the pre-tokenizer. Throws `model_tokenizer_unsupported` for one that has no name here. Of normalisers
 * only NFC is let pass, and not applied: ids always spell the text's own bytes.
 */
export function namePreTokenizer(preTokenizer: unknown, normalizer: unknown, ignoreMerges: boolean): string {
  const norm = z.object({ type: z.literal("NFC") }).nullish();
  if (!norm.safeParse(normalizer).success) {
    throw unsupported(`normalises text in a way that is not known here (${kindOf(normalizer)})`);
  }
  const cuts = cutsOf(preTokenizer);
  const name = findPreTokenizer(cuts, ignoreMerges);
  if (name === undefined) throw unsupported(`cuts text by ${cuts.join(" then ")}, which is not known here`);
  return name;
}

/** The expressions of a pre-tokenizer that ends in bytes, in their order. */
function cutsOf(preTokenizer: unknown): readonly string[] {
  const several = sequence.safeParse(preTokenizer);
  if (several.success) return several.data.pretokenizers.flatMap(cutsOf);
  const bytes = byteLevel.safeParse(preTokenizer);
  if (bytes.success && !bytes.data.add_prefix_space) return bytes.data.use_regex ? [GPT2_CUT] : [];
  if (digits.safeParse(preTokenizer).success) return [SINGLE_DIGITS];
  const cut = split.safeParse(preTokenizer);
  // With its matches removed and inverted, a split keeps exactly the matches.
  if (cut.success && cut.data.invert === (cut.data.behavior === "Removed")) return [cut.data.pattern.Regex];
  throw unsupported(`cuts text in a way that is not known here (${kindOf(preTokenizer)})`);
}

function kindOf(part: unknown): string {
  const typed = z.object({ type: z.string() }).safeParse(part);
  return typed.success ? typed.data.type : JSON.stringify(part)?.slice(0, 80);
}

function unsupported(what: string): StreamServeError {
  return new StreamServeError("model_tokenizer_unsupported", `The model's tokenizer.json ${what}.`);
}
