import type { KvCounts, PrefixTierCounts } from "../engine/engine.js";
import type { ServiceInfo } from "../gateway/generation.js";

/** Counts that the actor system and the engine keep, not the actors. */
export interface SystemCounts {
  readonly kv: KvCounts;
  /** The draft model's pool, if there is a draft model. */
  readonly draftKv?: KvCounts | undefined;
  /** The file that cached prefixes go to, if there is one. */
  readonly prefixTier?: PrefixTierCounts | undefined;
  readonly deadLetters: number;
  readonly restarts: number;
}

export interface GatewayOptions {
  readonly info: ServiceInfo;
  /** Attempts of one request, at most: what kills its lane every time must not do so for ever. */
  readonly maxAttempts: number;
  /** Tenants share no cached prefixes. */
  readonly isolateTenants: boolean;
  /** Held tokens that the reader does not take for so long fail the request, in milliseconds. */
  readonly stallMs: number;
  /**
   * A request whose reader has taken nothing for so long gives its KV to those that wait for it, in milliseconds, until
   * its reader takes more.
   */
  readonly idleMs: number;
  /** A request that was taken back is let go after so long even if no lane confirms, in milliseconds. */
  readonly closeMs: number;
  /** How often the above are looked at, and full edges tried again, in milliseconds. */
  readonly tickMs: number;
  readonly retryMs: number;
}
