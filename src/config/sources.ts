import { readFileSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { isMap, isNode, isScalar, LineCounter, type Node, parse, parseDocument } from "yaml";
import { StreamServeError } from "../errors.js";
import { isText, type KeyPath, keysUnder, valuePaths } from "./keys.js";

/** Where settings come from: a YAML file, environment variables, command-line flags. */

export interface Settings {
  /** Plain data in the configuration's shape, not yet checked. */
  readonly values: unknown;
  /** Where the value (or, failing that, the key) at a path was written, for error messages. */
  place(path: readonly PropertyKey[]): string | undefined;
}

/** A configuration is a page of text; a file larger than this (bytes) is something else. */
const MOST_FILE_BYTES = 1 << 20;
const PREFIX = "STREAMSERVE_";

/** The path of a preset (`cpu`) in config/, or the path given. */
export function configPath(nameOrPath: string): string {
  return /^[\w-]+$/.test(nameOrPath)
    ? fileURLToPath(new URL(`../../config/${nameOrPath}.yaml`, import.meta.url))
    : nameOrPath;
}

/** Reads a YAML file. Throws `config_invalid` with the line for text that is no YAML mapping. */
export function fileSettings(file: string): Settings {
  const lines = new LineCounter();
  const document = parseDocument(textOf(file), { lineCounter: lines, logLevel: "error" });
  const problem = document.errors[0];
  if (problem !== undefined) {
    const { line } = lines.linePos(problem.pos[0]);
    throw invalid(`${file}, line ${line}: ${problem.message.split("\n")[0]?.replace(/ at line .*$/, "")}.`);
  }
  if (document.contents !== null && !isMap(document.contents)) {
    throw invalid(`${file} must hold keys and values, such as "port: 8080" under "server:".`);
  }
  const place = (path: readonly PropertyKey[]) => {
    const line = lineOf(document.contents, path, lines);
    return line === undefined ? undefined : `${file}, line ${line}`;
  };
  try {
    return { values: document.toJS() ?? {}, place };
  } catch (error) {
    // Aliases are followed only now: to nothing, or to far too much.
    throw invalid(`${file}: ${error instanceof Error ? error.message.split("\n")[0] : String(error)}.`);
  }
}

/**
 * Settings from variables such as STREAMSERVE_SERVER_PORT. Variables that begin like a section of the
 * configuration must name a key of it; others are left alone, as they may belong to something else.
 */
export function environmentSettings(env: NodeJS.ProcessEnv): Settings {
  const ours = Object.entries(env).filter(([variable]) => variable.startsWith(PREFIX));
  if (ours.length === 0) return textSettings([]);
  const known = new Map(valuePaths().map((path) => [variableOf(path), path]));
  const sections = keysUnder([]).filter((key) => keysUnder([key]).length > 0);
  const given: [KeyPath, string, string][] = [];
  for (const [variable, text] of ours) {
    const section = sections.find((key) => variable.startsWith(`${variableOf([key])}_`));
    const unknown =
      section === undefined
        ? undefined
        : [section, camelCase(variable.slice(variableOf([section]).length + 1))];
    const path = known.get(variable) ?? unknown;
    if (path !== undefined && text !== undefined && text !== "") {
      given.push([path, text, `the environment variable ${variable}`]);
    }
  }
  return textSettings(given);
}

/** Settings from texts, each with the place to blame: flags and variables. */
export function textSettings(given: readonly (readonly [KeyPath, string, string])[]): Settings {
  const values = noKeys();
  const places = new Map<string, string>();
  for (const [path, text, place] of given) {
    assign(values, path, isText(path) ? text : scalar(text));
    places.set(path.join("."), place);
  }
  return {
    values,
    place: (path) => {
      const key = path.join(".");
      // A section that is none is to blame on whoever set a key in it.
      return places.get(key) ?? [...places].find(([under]) => under.startsWith(`${key}.`))?.[1];
    },
  };
}

/** A number, truth value or list, as YAML writes them; text that is none of these stays text. */
function scalar(text: string): unknown {
  try {
    return parse(text, { logLevel: "error" });
  } catch {
    return text;
  }
}

function assign(target: Record<string, unknown>, path: KeyPath, value: unknown): void {
  const [key = "", ...rest] = path;
  if (rest.length === 0) {
    target[key] = value;
    return;
  }
  const child = Object.assign(noKeys(), isRecord(target[key]) ? target[key] : {});
  assign(child, rest, value);
  target[key] = child;
}

/** An object in which any text can be a key, `__proto__` too. */
function noKeys(): Record<string, unknown> {
  return Object.create(null);
}

/** Lays `over` over `under`, key by key; lists and values are replaced whole. */
export function merged(under: unknown, over: unknown): unknown {
  if (!isRecord(under) || !isRecord(over)) {
    return over;
  }
  const result = new Map(Object.entries(under));
  for (const [key, value] of Object.entries(over)) {
    result.set(key, merged(result.get(key), value));
  }
  return Object.fromEntries(result);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function variableOf(path: KeyPath): string {
  return PREFIX + path.map((key) => key.replace(/[A-Z]/g, "_$&").toUpperCase()).join("_");
}

function camelCase(upper: string): string {
  return upper.toLowerCase().replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

/** The line of the deepest key on `path` that the document has. */
function lineOf(contents: Node | null, path: readonly PropertyKey[], lines: LineCounter): number | undefined {
  let line: number | undefined;
  let node: unknown = contents;
  for (const key of path) {
    const pair = isMap(node) ? node.items.find(({ key: k }) => isScalar(k) && k.value === key) : undefined;
    if (pair === undefined) {
      break;
    }
    if (isNode(pair.key) && pair.key.range) {
      line = lines.linePos(pair.key.range[0]).line;
    }
    node = pair.value;
  }
  return line;
}

function textOf(file: string): string {
  const found = statSync(file, { throwIfNoEntry: false });
  if (!found?.isFile()) {
    throw invalid(
      `There is no configuration file ${file}: name a preset (cpu, cpu-two-pairs) or a file that is there.`,
    );
  }
  if (found.size > MOST_FILE_BYTES) {
    throw invalid(
      `${file} is too large for a configuration (${found.size} bytes, at most ${MOST_FILE_BYTES}).`,
    );
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(file));
  } catch (error) {
    throw invalid(
      `${file} can't be read as text in UTF-8: ${error instanceof Error ? error.message : error}.`,
    );
  }
}

function invalid(sentence: string): StreamServeError {
  return new StreamServeError("config_invalid", sentence);
}
