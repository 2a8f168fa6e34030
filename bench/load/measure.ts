import type { Piece } from "./sse.js";
import { readEvents } from "./sse.js";

/** What one request cost. Times are milliseconds from the moment it was due to be sent. */
export type Outcome = Completed | Failed;

export interface Completed {
  readonly ok: true;
  readonly promptTokens: number;
  readonly outputTokens: number;
  /** To the first piece of text. */
  readonly ttftMs: number;
  /**
   * Per output token after the first: (last text - first text) / (tokens - 1). One event may carry several
   * tokens (speculation), so events are not counted. NaN for a single token.
   */
  readonly tpotMs: number;
  /** To the end of the response. */
  readonly latencyMs: number;
  /** Longest silence between two pieces of text; 0 with a single piece. */
  readonly longestGapMs: number;
  /** Events that carried text. */
  readonly events: number;
}

export interface Failed {
  readonly ok: false;
  /** Stable: an HTTP status with the server's own code, a transport code, or one of ours. */
  readonly code: string;
  readonly message: string;
}

export function failed(code: string, message: string): Failed {
  return { ok: false, code, message: message.slice(0, MESSAGE_LIMIT) };
}

/** Characters of a server's message kept: enough for a sentence, not for a page of HTML. */
const MESSAGE_LIMIT = 300;

/**
 * Measures a recorded chat completion stream. Parsing waits until the stream has ended, so that the client
 * takes as little CPU as it can from a server on the same machine.
 */
export function measureStream(pieces: readonly Piece[], dueMs: number, endedMs: number): Outcome {
  let first = Number.NaN;
  let last = Number.NaN;
  let longestGapMs = 0;
  let events = 0;
  let finished = false;
  let usage: Usage | undefined;
  for (const event of readEvents(pieces)) {
    if (event.data === "[DONE]") {
      finished = true;
      break;
    }
    const chunk = readChunk(event.data);
    if (chunk === undefined) return failed("bad_chunk", `Not a completion chunk: ${event.data}`);
    if (chunk.error !== undefined) return chunk.error;
    usage = chunk.usage ?? usage;
    if (!chunk.text) continue;
    events += 1;
    if (events === 1) first = event.atMs;
    else longestGapMs = Math.max(longestGapMs, event.atMs - last);
    last = event.atMs;
  }
  if (!finished) return failed("stream_cut", "The stream ended before its [DONE].");
  if (usage === undefined) return failed("no_usage", "The server sent no usage, so tokens can't be counted.");
  if (events === 0) return failed("no_text", "The stream carried no text.");
  return {
    ok: true,
    ...usage,
    ttftMs: first - dueMs,
    tpotMs: usage.outputTokens > 1 ? (last - first) / (usage.outputTokens - 1) : Number.NaN,
    latencyMs: endedMs - dueMs,
    longestGapMs,
    events,
  };
}

interface Usage {
  readonly promptTokens: number;
  readonly outputTokens: number;
}

interface Chunk {
  readonly text: boolean;
  readonly usage?: Usage;
  readonly error?: Failed;
}

/** Undefined when the data is not a JSON object. */
function readChunk(data: string): Chunk | undefined {
  let value: unknown;
  try {
    value = JSON.parse(data);
  } catch {
    return undefined;
  }
  if (!isRecord(value)) return undefined;
  const text = Array.isArray(value.choices) && value.choices.some(carriesText);
  if (value.error !== undefined && value.error !== null) return { text, error: readError("stream", value) };
  const usage = readUsage(value.usage);
  return usage ? { text, usage } : { text };
}

function carriesText(choice: unknown): boolean {
  if (!isRecord(choice)) return false;
  const { delta } = choice;
  return (
    isRecord(delta) &&
    [delta.content, delta.reasoning_content, delta.reasoning].some(
      (text) => typeof text === "string" && text !== "",
    )
  );
}

function readUsage(usage: unknown): Usage | undefined {
  if (!isRecord(usage)) return undefined;
  const { prompt_tokens: promptTokens, completion_tokens: outputTokens } = usage;
  return typeof promptTokens === "number" && typeof outputTokens === "number"
    ? { promptTokens, outputTokens }
    : undefined;
}

/** An OpenAI-style error body as a failure: `{error: {message, type, code}}`, or whatever comes close to it. */
export function readError(prefix: string, body: unknown): Failed {
  const error = isRecord(body) && isRecord(body.error) ? body.error : body;
  if (!isRecord(error)) return failed(prefix, typeof error === "string" ? error : "No message.");
  const code = error.code ?? error.type;
  const message = typeof error.message === "string" ? error.message : JSON.stringify(error);
  return failed(typeof code === "string" ? `${prefix} ${code}` : prefix, message);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
