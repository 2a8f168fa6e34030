import { StreamServeError } from "../errors.js";
import type { GenerationRequest, ServiceInfo } from "../gateway/generation.js";

/** What is wrong with a request, or undefined. Doors check their own wire formats; this is the last line. */
export function checkRequest(request: GenerationRequest, info: ServiceInfo): StreamServeError | undefined {
  const { prompt, maxTokens, sampling } = request;
  if (prompt.length === 0) {
    return new StreamServeError("empty_prompt", "The prompt is empty: send at least one token.");
  }
  if (!Number.isInteger(maxTokens) || maxTokens < 1) {
    return new StreamServeError(
      "invalid_parameter",
      `maxTokens must be a whole number from 1, not ${maxTokens}.`,
    );
  }
  if (prompt.length + maxTokens > info.contextTokens) {
    return new StreamServeError(
      "prompt_too_long",
      `The prompt's ${prompt.length} tokens and ${maxTokens} output tokens do not fit the context of ${info.contextTokens}: shorten the prompt or ask for fewer.`,
      { promptTokens: prompt.length, maxTokens, contextTokens: info.contextTokens },
    );
  }
  for (const id of prompt) {
    if (id >= info.vocabulary) {
      return new StreamServeError(
        "invalid_parameter",
        `Token id ${id} is outside the vocabulary of ${info.vocabulary}.`,
        { id, vocabulary: info.vocabulary },
      );
    }
  }
  if (!(request.credit >= 0)) {
    return new StreamServeError("invalid_credit", `credit must be 0 or more, not ${request.credit}.`);
  }
  if (!Number.isFinite(request.deadlineMs) || request.deadlineMs < 0) {
    return new StreamServeError(
      "invalid_parameter",
      `deadlineMs must be 0 or more, not ${request.deadlineMs}.`,
    );
  }
  for (const [name, value] of Object.entries(sampling)) {
    if (typeof value === "number" && !Number.isFinite(value) && name !== "minTokens") {
      return new StreamServeError(
        "invalid_parameter",
        `sampling.${name} must be a finite number, not ${value}.`,
      );
    }
  }
  return undefined;
}
