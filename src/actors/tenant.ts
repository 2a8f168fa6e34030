import { createHash } from "node:crypto";

/** Tenant of requests that name none. */
export const NOBODY = 0;

/**
 * A tenant's number in messages: 32 bits of a hash, so that a message holds it however long the name is. Two
 * names that share a number share what one tenant gets.
 */
export function tenantNumber(name: string | undefined): number {
  if (name === undefined || name === "") return NOBODY;
  return createHash("sha256").update(name).digest().readUInt32LE() || 1;
}
