import { userCache } from "./user-cache.js";

/** Where packed weights are kept between starts (docs/decisions/packed-cache.md). */

export interface PackedCache {
  readonly directory: string;
  /** What all its files together may take, in bytes; 0: nothing is kept. */
  readonly bytes: number;
  /** Copies kept weights into memory of this process instead of mapping them. */
  readonly copy: boolean;
}

/** The part of the configuration that decides on it. */
export interface PackedCacheSettings {
  readonly packedCacheBytes: number;
  readonly packedCacheDirectory: string;
  readonly copyWeights: boolean;
}

/** The cache that the settings ask for; by default in the user's cache directory. */
export function packedCache(
  settings: PackedCacheSettings,
  env: NodeJS.ProcessEnv = process.env,
): PackedCache {
  const { packedCacheBytes, packedCacheDirectory, copyWeights } = settings;
  return {
    directory: packedCacheDirectory || userCache("packed", env),
    bytes: packedCacheBytes,
    copy: copyWeights,
  };
}
