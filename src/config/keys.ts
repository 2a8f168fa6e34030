import * as z from "zod";
import { configSchema } from "./schema.js";

/** The keys of the configuration, found in its schema: which there are, and which of them are plain text. */

interface Node {
  readonly type?: string;
  readonly properties?: Readonly<Record<string, Node>>;
}

export type KeyPath = readonly string[];

/** The published JSON schema of configuration files (config/schema.json). */
export function configJsonSchema(): object {
  return z.toJSONSchema(configSchema, { io: "input", target: "draft-2020-12" });
}

let known: Node | undefined;

/** Made when it is first asked for: a start without variables and flags asks for nothing. */
function root(): Node {
  known ??= configJsonSchema() as Node;
  return known;
}

/** The keys under a path; none if the path leads to a value or nowhere. */
export function keysUnder(path: KeyPath): readonly string[] {
  return Object.keys(nodeAt(path)?.properties ?? {});
}

/** True for a key whose value is a single text, which must not be read as a number or a truth value. */
export function isText(path: KeyPath): boolean {
  return nodeAt(path)?.type === "string";
}

/** The known key under `path` most like `unknown`; undefined when none is alike. */
export function nearestKey(path: KeyPath, unknown: string): string | undefined {
  let best: string | undefined;
  // A key that differs in more than half its letters is another word, not a slip.
  let least = Math.floor(Math.max(2, unknown.length / 2)) + 1;
  for (const key of keysUnder(path)) {
    const edits = editDistance(key.toLowerCase(), unknown.toLowerCase());
    if (edits < least) {
      least = edits;
      best = key;
    }
  }
  return best;
}

/** Every path that leads to a value, e.g. `["server", "port"]`. */
export function valuePaths(): readonly KeyPath[] {
  const under = (node: Node, path: KeyPath): readonly KeyPath[] =>
    node.properties === undefined
      ? [path]
      : Object.entries(node.properties).flatMap(([key, child]) => under(child, [...path, key]));
  return under(root(), []);
}

function nodeAt(path: KeyPath): Node | undefined {
  return path.reduce<Node | undefined>((node, key) => node?.properties?.[key], root());
}

/** Levenshtein's distance: least insertions, deletions and replacements that turn `a` into `b`. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
