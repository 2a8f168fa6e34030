import { StreamServeError } from "../errors.js";

/** An error body as OpenAI's clients expect it. */
export interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string;
    /** Numbers behind the message, e.g. `promptTokens` and `contextTokens`. */
    readonly details?: Readonly<Record<string, number | string>>;
  };
}

export function errorBody(error: StreamServeError): ErrorBody {
  const { param, ...details } = error.details;
  return {
    error: {
      message: error.message,
      type: errorType(error.status),
      param: typeof param === "string" ? param : null,
      code: error.code,
      ...(Object.keys(details).length > 0 ? { details } : {}),
    },
  };
}

function errorType(status: number): string {
  if (status === 401) return "authentication_error";
  if (status === 403) return "permission_error";
  if (status === 404) return "not_found_error";
  if (status === 429) return "rate_limit_error";
  if (status === 503) return "overloaded_error";
  return status < 500 ? "invalid_request_error" : "server_error";
}

/** What was thrown, as an error with a code. What no one foresaw is `internal`. */
export function asStreamServeError(thrown: unknown): StreamServeError {
  if (thrown instanceof StreamServeError) return thrown;
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  return new StreamServeError("internal", `Something failed inside: ${text}`, {}, { cause: thrown });
}
