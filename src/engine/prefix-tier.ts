import { userCache } from "./user-cache.js";

/** Where cached prefixes go that give way (docs/decisions/prefix-tier.md). */

export interface PrefixTier {
  readonly directory: string;
  /** What a model's file may take; 0: nothing is kept. */
  readonly bytes: number;
}

/** The part of the configuration that decides on it. */
export interface PrefixTierSettings {
  readonly prefixTierBytes: number;
  readonly prefixTierDirectory: string;
}

/** The tier that the settings ask for; by default in the user's cache directory. */
export function prefixTier(settings: PrefixTierSettings, env: NodeJS.ProcessEnv = process.env): PrefixTier {
  const { prefixTierBytes, prefixTierDirectory } = settings;
  return { directory: prefixTierDirectory || userCache("prefixes", env), bytes: prefixTierBytes };
}
