import { loadConfig } from "../config/load.js";
import type { Config } from "../config/schema.js";

/** The configuration that a command's options make, laid over environment and preset. */

export interface ServingOptions {
  readonly config?: string;
  readonly model?: string;
  readonly host?: string;
  readonly port?: string;
  readonly apiKey?: string;
  readonly draftModel?: string;
  readonly threads?: string;
  readonly pairs?: string;
  readonly instructionSet?: string;
  readonly set: readonly string[];
}

/** Option -> the key of the configuration that it sets. */
const KEYS: readonly (readonly [Exclude<keyof ServingOptions, "config" | "set">, string, string])[] = [
  ["model", "--model", "model"],
  ["host", "--host", "server.host"],
  ["port", "--port", "server.port"],
  ["apiKey", "--api-key", "server.apiKey"],
  ["draftModel", "--draft-model", "speculation.draftModel"],
  ["threads", "--threads", "engine.threads"],
  ["pairs", "--pairs", "pairs"],
  ["instructionSet", "--instruction-set", "engine.instructionSet"],
];

/** The configuration that the options, the environment and the preset make together. */
export function configOf(options: ServingOptions): Config {
  const flags = KEYS.flatMap(([name, flag, key]) => {
    const text = options[name];
    return text === undefined ? [] : [[key.split("."), text, `the option ${flag}`] as const];
  });
  const sets = options.set.map((text) => {
    const at = text.indexOf("=");
    const key = text.slice(0, at);
    return [key.split("."), text.slice(at + 1), `the option --set ${key}`] as const;
  });
  return loadConfig({ config: options.config, flags: [...flags, ...sets] });
}
