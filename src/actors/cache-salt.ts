import { createHash } from "node:crypto";
import { type CacheSalt, NO_SALT } from "../engine/engine.js";

/** Bits of a salt's word: exact in a number of JavaScript. */
const WORD = 0xfffffffffffffn;

/**
 * Whose cached prefixes a request may share: those of its tenant when `isolate` says so, and of requests with the
 * same `salt` when it names one. 104 bits of a hash: nobody finds another's by trying.
 */
export function cacheSalt(isolate: boolean, tenant: string | undefined, salt: string | undefined): CacheSalt {
  const owner = isolate ? (tenant ?? "") : "";
  if (owner === "" && (salt === undefined || salt === "")) return NO_SALT;
  const hash = createHash("sha256")
    .update(JSON.stringify([owner, salt ?? ""]))
    .digest();
  return [Number(hash.readBigUInt64LE(0) & WORD) || 1, Number(hash.readBigUInt64LE(8) & WORD)];
}
