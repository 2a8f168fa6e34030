import { z } from "zod";
import { wireParameters } from "./parameters.js";

/** Fields of OpenAI's requests that chat and completions share, besides those that steer generation. */

/** Refused unless absent or as good as absent. */
export function unsupported(what: string, harmless: (value: unknown) => boolean = () => false) {
  return z
    .unknown()
    .refine((value) => value === undefined || value === null || harmless(value), `${what} not supported here`)
    .optional();
}

/** Accepted and without effect, as OpenAI's API documents for clients that send it. */
export const ignored = z.unknown().optional();

export const isEmptyArray = (value: unknown): boolean => Array.isArray(value) && value.length === 0;

export const commonFields = {
  ...wireParameters,
  model: z.string().nullish(),
  n: z
    .int()
    .min(1)
    .max(128)
    .nullish()
    .transform((n) => n ?? 1),
  stream: z
    .boolean()
    .nullish()
    .transform((stream) => stream ?? false),
  stream_options: z
    .strictObject({
      include_usage: z.boolean().nullish(),
      include_obfuscation: ignored,
    })
    .nullish(),
  user: ignored,
  metadata: ignored,
  store: ignored,
  service_tier: ignored,
  safety_identifier: ignored,
  prompt_cache_key: ignored,
  prompt_cache_retention: ignored,
};
