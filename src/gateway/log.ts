import { type Logger, pino } from "pino";

/** The server's own log. */
export type ServerLog = Logger;

/** People read standard error: what is worth a line there. */
const LOG_LEVEL = "warn";

/** Writes to standard error, a JSON object a line. */
export function openLog(): ServerLog {
  return pino({ name: "streamserve", level: LOG_LEVEL }, pino.destination(2));
}
