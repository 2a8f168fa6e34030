export { type StartOptions, StreamServe } from "./client/stream-serve.js";
export type {
  ChatOptions,
  ChatTurn,
  CompleteOptions,
  Completion,
  Ending,
  GenerateOptions,
  TextDelta,
  TextGeneration,
  TokenLikelihood,
  TokenLogprob,
  Usage,
} from "./client/text-generation.js";
export { type Config, configSchema } from "./config/schema.js";
export { ERROR_CODES, type ErrorCode, StreamServeError } from "./errors.js";
export type { RunningServer } from "./gateway/running-server.js";
export { startServer } from "./gateway/server.js";
