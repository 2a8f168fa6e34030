import type * as z from "zod";
import { StreamServeError } from "../errors.js";
import { type KeyPath, nearestKey } from "./keys.js";
import { type Config, configSchema } from "./schema.js";
import {
  configPath,
  environmentSettings,
  fileSettings,
  merged,
  type Settings,
  textSettings,
} from "./sources.js";

/** Puts a configuration together and checks it as a whole. */

/** The preset served without `--config`. */
const DEFAULT_PRESET = "cpu";

export interface ConfigSources {
  /** A preset's name (`cpu-two-pairs`) or the path of a YAML file; else STREAMSERVE_CONFIG, else the preset `cpu`. */
  readonly config?: string | undefined;
  /** Settings of the command line: path of the key, text, and the flag to blame. They come last. */
  readonly flags?: readonly (readonly [KeyPath, string, string])[];
  readonly env?: NodeJS.ProcessEnv;
}

/**
 * The configuration: preset or file, then STREAMSERVE_* variables, then flags. Throws `config_unknown_key`
 * naming the key, where it stands and the key that may be meant, or `config_invalid` with the place.
 */
export function loadConfig({ config, flags = [], env = process.env }: ConfigSources = {}): Config {
  const file = fileSettings(configPath(config ?? (env.STREAMSERVE_CONFIG || DEFAULT_PRESET)));
  return checkConfig([file, environmentSettings(env), textSettings(flags)]);
}

/** Checks settings laid over one another, the last on top. Throws as `loadConfig` does. */
export function checkConfig(layers: readonly Settings[]): Config {
  const values = layers.reduce<unknown>((under, layer) => merged(under, layer.values), {});
  const parsed = configSchema.safeParse(values);
  // The uppermost layer that wrote the value is to blame.
  const place = (path: readonly PropertyKey[]) =>
    layers.toReversed().flatMap((layer) => layer.place(path) ?? [])[0] ?? "the configuration";
  if (!parsed.success) throw explained(parsed.error, place);
  PLACES.set(parsed.data, place);
  return parsed.data;
}

/** Where the values of a configuration were written. */
const PLACES = new WeakMap<Config, (path: readonly PropertyKey[]) => string>();

/**
 * An error about a key of a configuration (`details.key`) that came up after it was loaded, with the place where
 * the key was written; any other error as it is.
 */
export function withPlace(thrown: unknown, config: Config): unknown {
  const place = PLACES.get(config);
  if (!(thrown instanceof StreamServeError) || thrown.code !== "config_invalid" || !place) return thrown;
  const { key } = thrown.details;
  if (typeof key !== "string") return thrown;
  const message = thrown.message.replace(`"${key}"`, `"${key}" (${place(key.split("."))})`);
  return new StreamServeError(thrown.code, message, thrown.details, { cause: thrown });
}

function explained(error: z.ZodError, place: (path: readonly PropertyKey[]) => string): StreamServeError {
  const unknown = error.issues.find((issue) => issue.code === "unrecognized_keys");
  if (unknown?.code === "unrecognized_keys") {
    const section = unknown.path.map(String);
    const key = unknown.keys[0] ?? "";
    const path = [...section, key];
    const nearest = nearestKey(section, key);
    const remedy =
      nearest === undefined ? "see config/schema.json for the keys there are." : `did you mean "${nearest}"?`;
    return new StreamServeError(
      "config_unknown_key",
      `"${path.join(".")}" (${place(path)}) is not a key of the configuration: ${remedy}`,
      { key: path.join("."), ...(nearest === undefined ? {} : { nearest }) },
    );
  }
  const issue = error.issues[0];
  const path = issue?.path ?? [];
  return new StreamServeError(
    "config_invalid",
    `"${path.join(".")}" (${place(path)}) can't be used: ${issue?.message.replace(/^Invalid input: /, "")}.`,
    { key: path.join(".") },
  );
}
