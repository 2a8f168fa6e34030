import { StreamServeError } from "../errors.js";
import type { ServiceInfo } from "./generation.js";

/** A server has one model: a request may leave it out, but not name another. Throws `unknown_model`. */
export function checkModel(info: ServiceInfo, model: string | null | undefined): void {
  if (model === undefined || model === null || model === info.model) return;
  throw new StreamServeError(
    "unknown_model",
    `The model '${model.slice(0, 200)}' is not served here: use '${info.model}'.`,
    { param: "model" },
  );
}

/** A model as /v1/models lists it; `max_model_len` is vLLM's name for the context limit. */
export function modelCard(info: ServiceInfo, created: number): object {
  return {
    id: info.model,
    object: "model",
    created,
    owned_by: "streamserve",
    max_model_len: info.contextTokens,
  };
}
