import * as z from "zod";
import { checks, fromWire, maybe, type Parameters, type Wire, wireParameters } from "./parameters.js";
import { refuse } from "./validation.js";

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
  /** OpenAI's newer name of `user`. */
  safety_identifier: checks.tenant,
  /** `flex` is OpenAI's word for offline work; the others mean what comes without asking. */
  service_tier: maybe(z.enum(["auto", "default", "flex", "scale", "priority"])),
  metadata: ignored,
  store: ignored,
  prompt_cache_key: ignored,
  prompt_cache_retention: ignored,
};

/** What OpenAI's fields say of class and tenant besides ours. */
type TierFields = Wire & {
  readonly service_tier: "auto" | "default" | "flex" | "scale" | "priority" | undefined;
  readonly safety_identifier: string | undefined;
};

/** The parameters of an HTTP body; throws `invalid_parameter` when `class` and `service_tier` disagree. */
export function fromBody(body: TierFields, logprobs: number): Parameters {
  const parameters = fromWire(body, logprobs);
  const flex = body.service_tier === "flex";
  if (flex && body.class === "interactive") {
    throw refuse("service_tier", "'service_tier': \"flex\" is offline work, but 'class' is \"interactive\".");
  }
  return {
    ...parameters,
    class: flex ? "offline" : parameters.class,
    tenant: parameters.tenant ?? body.safety_identifier,
  };
}

/** What a reply says of the tier that served it, to a client that named one. */
export function tierServed(body: Pick<TierFields, "service_tier">): { readonly service_tier?: string } {
  if (body.service_tier === undefined) return {};
  return { service_tier: body.service_tier === "flex" ? "flex" : "default" };
}
