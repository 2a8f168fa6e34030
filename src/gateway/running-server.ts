import type { ServiceInfo } from "./generation.js";

/** A server under way. */
export interface RunningServer {
  /** Where it listens, e.g. `http://127.0.0.1:8080`; port 0 in the config gives a free one. */
  readonly url: string;
  /** What is served, and on what. */
  readonly info: ServiceInfo;
  /**
   * Takes no new requests, gives running ones `graceMs` (default 10 s) to end, cancels the rest, then stops all
   * threads. A second call hurries the first.
   */
  close(graceMs?: number): Promise<void>;
}
