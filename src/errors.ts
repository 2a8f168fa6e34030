/**
 * Every failure a user can meet, by its stable code. The HTTP status is the one the gateway answers with;
 * other doors (WebSocket, embedding, CLI) carry the code alone.
 */
export const ERROR_CODES = {
  // The request.
  invalid_request: 400,
  invalid_parameter: 400,
  invalid_json: 400,
  invalid_utf8: 400,
  empty_prompt: 400,
  prompt_too_long: 400,
  unknown_model: 404,
  unknown_route: 404,
  method_not_allowed: 405,
  body_too_large: 413,
  unsupported_media_type: 415,
  unauthorized: 401,
  forbidden_origin: 403,
  too_many_connections: 503,
  // The WebSocket protocol.
  invalid_message: 400,
  unknown_message: 400,
  unknown_request: 404,
  duplicate_request: 409,
  invalid_credit: 400,
  connection_failed: 502,
  // The life of a request.
  overloaded: 503,
  rate_limited: 429,
  draining: 503,
  deadline_exceeded: 504,
  slow_reader: 408,
  cancelled: 499,
  kv_exhausted: 503,
  lane_failed: 500,
  // Model files and their catalogue.
  model_not_found: 404,
  model_download_failed: 502,
  model_checksum_mismatch: 502,
  model_file_truncated: 422,
  model_file_invalid: 422,
  model_architecture_unsupported: 422,
  model_format_unsupported: 422,
  model_tokenizer_unsupported: 422,
  disk_full: 507,
  // Native engine.
  native_addon_missing: 500,
  native_argument_invalid: 500,
  stale_handle: 500,
  out_of_memory: 500,
  // Start-up.
  config_invalid: 422,
  config_unknown_key: 422,
  trace_invalid: 422,
  port_in_use: 500,
  tool_missing: 500,
  install_failed: 500,
  build_failed: 500,
  internal: 500,
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;

/** A failure with a stable code, a sentence that says what to do, and the numbers behind it. */
export class StreamServeError extends Error {
  override readonly name = "StreamServeError";

  constructor(
    readonly code: ErrorCode,
    message: string,
    /** Machine-readable facts, e.g. `{ promptTokens: 9000, contextTokens: 8192 }`. */
    readonly details: Readonly<Record<string, number | string>> = {},
    options?: ErrorOptions,
  ) {
    super(message, options);
  }

  /** The HTTP status that the gateway answers with. */
  get status(): number {
    return ERROR_CODES[this.code];
  }
}
