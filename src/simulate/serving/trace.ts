import { readFileSync } from "node:fs";
import { StreamServeError } from "../../errors.js";

/**
 * A request of a trace in the format that Mooncake published (FAST 2025): JSON lines of `timestamp` in milliseconds,
 * `input_length` and `output_length` in tokens, and `hash_ids`, one for each block of the prompt. An id names a
 * block's tokens and all before them: equal ids are equal prefixes.
 */
export interface TraceRequest {
  readonly atMs: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly chain: readonly number[];
}

const whole = (value: unknown): value is number =>
  typeof value === "number" && Number.isSafeInteger(value) && value >= 0;

/** Reads one line; throws `trace_invalid` that names the line and what is wrong with it. */
export function parseTraceLine(line: string, number: number): TraceRequest {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw invalid(`Line ${number} of the trace is not JSON.`);
  }
  const record = (typeof value === "object" && value !== null ? value : {}) as Record<string, unknown>;
  const { timestamp, input_length: input, output_length: output, hash_ids: ids } = record;
  if (typeof timestamp !== "number" || !(timestamp >= 0) || !Number.isFinite(timestamp)) {
    throw invalid(`Line ${number} of the trace needs a timestamp in milliseconds, 0 or more.`);
  }
  if (!whole(input) || !whole(output)) {
    throw invalid(`Line ${number} of the trace needs whole input_length and output_length.`);
  }
  if (!Array.isArray(ids) || !ids.every(whole)) {
    throw invalid(`Line ${number} of the trace needs hash_ids: a list of whole numbers.`);
  }
  return { atMs: timestamp, inputTokens: input, outputTokens: output, chain: ids };
}

/** Reads a trace file. Throws `trace_invalid` when it can't be read, has a bad line, or is empty. */
export function readTrace(file: string): TraceRequest[] {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw invalid(`The trace ${file} can't be read: ${error instanceof Error ? error.message : error}.`);
  }
  const requests: TraceRequest[] = [];
  text.split("\n").forEach((line, index) => {
    if (line.trim() !== "") requests.push(parseTraceLine(line, index + 1));
  });
  if (requests.length === 0) throw invalid(`The trace ${file} holds no request.`);
  return requests.sort((a, b) => a.atMs - b.atMs);
}

function invalid(message: string): StreamServeError {
  return new StreamServeError("trace_invalid", message);
}

/** The line of a request, as `parseTraceLine` reads it. */
export function traceLine({ atMs, inputTokens, outputTokens, chain }: TraceRequest): string {
  return JSON.stringify({
    timestamp: Math.round(atMs),
    input_length: inputTokens,
    output_length: outputTokens,
    hash_ids: chain,
  });
}
