import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { leastRingBytes } from "../dist/actors/deployment.js";
import { protocol } from "../dist/actors/messages.js";
import { startRuntime } from "../dist/actors/start.js";
import { configJsonSchema, keysUnder, valuePaths } from "../dist/config/keys.js";
import { type ConfigSources, loadConfig, withPlace } from "../dist/config/load.js";
import { configSchema } from "../dist/config/schema.js";
import { StreamServeError } from "../dist/errors.js";
import { resolveModel } from "../dist/model/resolve.js";
import { compileCodec } from "../dist/runtime/codec.js";

/** Configurations put together from presets, files, variables and flags; and what is said of wrong ones. */

let home: string;

beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), "config-"));
});

afterAll(() => rmSync(home, { recursive: true, force: true }));

function fileWith(text: string): string {
  const path = join(home, "config.yaml");
  writeFileSync(path, text);
  return path;
}

/** What `loadConfig` throws, as `code: message`. */
function refusal(sources: ConfigSources): string {
  try {
    loadConfig({ env: {}, ...sources });
  } catch (error) {
    if (error instanceof StreamServeError) return `${error.code}: ${error.message}`;
    throw error;
  }
  throw new Error("it was taken");
}

describe("sources", () => {
  test("without any, the preset cpu has the defaults of the schema", () => {
    expect(loadConfig({ env: {} })).toEqual(configSchema.parse({}));
  });

  test("every preset is valid", () => {
    const names = readdirSync(new URL("../config", import.meta.url)).filter((name) =>
      /^cpu.*\.yaml$/.test(name),
    );
    expect(names).toContain("cpu-two-pairs.yaml");
    for (const name of names) {
      expect(() => loadConfig({ config: name.replace(".yaml", ""), env: {} }), name).not.toThrow();
    }
    expect(loadConfig({ config: "cpu-two-pairs", env: {} }).pairs).toBe(2);
  });

  test("flags go over variables, variables over the file, the file over defaults", () => {
    const config = fileWith("server: { port: 1, host: a }\nengine: { threads: 1, kvTokens: 64 }\npairs: 3\n");
    const env = { STREAMSERVE_SERVER_PORT: "2", STREAMSERVE_ENGINE_THREADS: "2" };
    const loaded = loadConfig({ config, env, flags: [[["server", "port"], "3", "--port"]] });
    expect(loaded.server).toMatchObject({ port: 3, host: "a", maxSockets: 1024 });
    expect(loaded.engine).toMatchObject({ threads: 2, kvTokens: 64 });
    expect(loaded.pairs).toBe(3);
  });

  test("STREAMSERVE_CONFIG names the file", () => {
    expect(loadConfig({ env: { STREAMSERVE_CONFIG: fileWith("pairs: 5\n") } }).pairs).toBe(5);
  });

  test("text stays text, lists are read as YAML has them", () => {
    const env = {
      STREAMSERVE_SERVER_API_KEY: "0123",
      STREAMSERVE_SERVER_ALLOWED_ORIGINS: "[http://a, http://b]",
    };
    expect(loadConfig({ env }).server).toMatchObject({
      apiKey: "0123",
      allowedOrigins: ["http://a", "http://b"],
    });
  });

  test("variables that only look alike are left alone", () => {
    const env = {
      STREAMSERVE_PORT: "tcp://10.0.0.1:80",
      STREAMSERVE_SERVICE_HOST: "10.0.0.1",
      STREAMSERVE_MODELS: "/m",
    };
    expect(loadConfig({ env })).toEqual(configSchema.parse({}));
  });

  test("every value can be set by a flag and by its variable", () => {
    for (const path of valuePaths()) {
      const variable = `STREAMSERVE_${path.map((key) => key.replace(/[A-Z]/g, "_$&").toUpperCase()).join("_")}`;
      const bad = { env: { [variable]: "{ wrong: type }" } };
      const text = path.join(".");
      const texts = [
        "model",
        "speculation.draftModel",
        "speculation.knownAnswers",
        "server.host",
        "server.apiKey",
      ];
      const directories = ["engine.packedCacheDirectory", "engine.prefixTierDirectory"];
      if ([...texts, ...directories, "engine.instructionSet"].includes(text)) {
        expect(() => loadConfig(bad)).not.toThrow();
      } else {
        expect(refusal(bad)).toMatch(new RegExp(`^config_\\w+: "${text}.*variable ${variable}\\)`));
        expect(refusal({ flags: [[path, "{ wrong: type }", "--x"]] })).toMatch(
          new RegExp(`"${text}.*\\(--x\\)`),
        );
      }
    }
  });
});

describe("mistakes", () => {
  test.each([
    [
      "a misspelt key",
      "server:\n  port: 1\n  hots: x\n",
      /^config_unknown_key: "server\.hots" \(.*config\.yaml, line 3\).*"host"/,
    ],
    [
      "a misspelt section",
      "pairs: 1\nenigne:\n  threads: 1\n",
      /^config_unknown_key: "enigne" \(.*, line 2\).*"engine"/,
    ],
    ["a key like no other", "colour: blue\n", /^config_unknown_key: "colour" \(.*, line 1\).*schema\.json/],
    [
      "a wrong type",
      "server:\n\n  port: web\n",
      /^config_invalid: "server\.port" \(.*, line 3\).*expected number/,
    ],
    [
      "a number out of range",
      "server:\n  port: 70000\n",
      /^config_invalid: "server\.port" \(.*, line 2\).*65535/,
    ],
    ["a value where a section belongs", "pairs: 1\nserver: 5\n", /^config_invalid: "server" \(.*, line 2\)/],
    [
      "a wrong item of a list",
      "server:\n  allowedOrigins: [1]\n",
      /^config_invalid: "server\.allowedOrigins\.0" \(.*, line 2\)/,
    ],
    ["text that is no YAML", "server:\n  port: [1\n", /^config_invalid: .*config\.yaml, line \d/],
    ["the same key twice", "pairs: 1\npairs: 2\n", /^config_invalid: .*line 2: Map keys must be unique/],
    ["an alias of nothing", "pairs: *one\n", /^config_invalid: .*alias/i],
    ["a list", "- a\n- b\n", /^config_invalid: .*must hold keys and values/],
    ["a prototype", "__proto__:\n  pairs: 9\n", /^config_unknown_key: "__proto__" \(.*, line 1\)/],
  ])("%s is refused with its line", (_name, text, message) => {
    expect(refusal({ config: fileWith(text) })).toMatch(message);
  });

  test("a misspelt variable of a section is refused by name", () => {
    expect(refusal({ env: { STREAMSERVE_ENGINE_TREADS: "1" } })).toMatch(
      /^config_unknown_key: "engine\.treads" \(the environment variable STREAMSERVE_ENGINE_TREADS\).*"threads"/,
    );
  });

  test("a flag for a section that is none is to blame itself", () => {
    expect(refusal({ flags: [[["enigne", "threads"], "1", "the option --set enigne.threads"]] })).toMatch(
      /^config_unknown_key: "enigne" \(the option --set enigne\.threads\).*"engine"/,
    );
  });

  test("a context too small for a prompt and an answer is refused by its key", () => {
    const flags = [[["engine", "contextTokens"], "7", "--set"]] as const;
    expect(refusal({ flags })).toMatch(/^config_invalid: "engine\.contextTokens" \(--set\).*16 or more/);
  });

  test("a file that is not there is refused", () => {
    expect(refusal({ config: "no-such-preset" })).toMatch(
      /^config_invalid: There is no configuration file .*no-such-preset/,
    );
  });

  test("any text is either a configuration or refused with a code", () => {
    const key = fc.constantFrom(...keysUnder([]), ...keysUnder(["server"]), "x", "__proto__", "? ");
    const line = fc.tuple(
      fc.constantFrom("", "  ", "- "),
      key,
      fc.oneof(fc.string({ maxLength: 9 }), fc.integer().map(String)),
    );
    const text = fc.oneof(
      fc.string({ unit: "binary", maxLength: 60 }),
      fc
        .array(line, { maxLength: 6 })
        .map((lines) => lines.map(([indent, k, v]) => `${indent}${k}: ${v}`).join("\n")),
    );
    fc.assert(
      fc.property(text, (content) => {
        try {
          loadConfig({ config: fileWith(content), env: {} });
        } catch (error) {
          expect(error).toBeInstanceOf(StreamServeError);
        }
      }),
      { numRuns: 500 },
    );
  });
});

test("config/schema.json is what the schema says (npm run schema writes it)", () => {
  const published = JSON.parse(readFileSync(new URL("../config/schema.json", import.meta.url), "utf8"));
  expect(published).toEqual(JSON.parse(JSON.stringify(configJsonSchema())));
});

describe("objectives", () => {
  test("that this machine can't keep are refused at start, with the line, the key and the times", async () => {
    const config = loadConfig({
      config: fileWith("pairs: 1\nscheduler:\n  interactive:\n    ttftMs: 0.001\n"),
      env: {},
    });
    const refused: unknown = await startRuntime(config, await resolveModel(config.model)).then(
      (runtime) => runtime.stop(),
      (error: unknown) => withPlace(error, config),
    );
    expect(refused).toMatchObject({
      code: "config_invalid",
      details: { key: "scheduler.interactive.ttftMs" },
      message: expect.stringMatching(
        /^"scheduler\.interactive\.ttftMs" \(.*config\.yaml, line 4\) can't be kept: the shortest prompt takes [\d.]+ ms on this machine, and 0\.001 ms are allowed/,
      ),
    });
  });

  test("pairs without lanes are refused with their line", () => {
    expect(refusal({ config: fileWith("\npairs: 0\n") })).toMatch(
      /^config_invalid: "pairs" \(.*config\.yaml, line 2\) can't be used: a pair is a prefill lane and a decode lane/,
    );
    expect(refusal({ config: fileWith("pairs: 1\ndecode:\n  maxRows: 0\n") })).toMatch(
      /^config_invalid: "decode\.maxRows" \(.*config\.yaml, line 3\) can't be used: a lane without rows serves nobody/,
    );
  });
});

describe("mailboxes", () => {
  test("too small for what a lane may have to say are refused before a model is read", async () => {
    const config = configSchema.parse({ decode: { maxRows: 512, maxBatchTokens: 4096 } });
    await expect(startRuntime(config, join(home, "nowhere.gguf"))).rejects.toMatchObject({
      code: "config_invalid",
      details: { ringBytes: config.runtime.ringBytes, least: leastRingBytes(config) },
    });
  });

  test("of the least size take the largest message of a step", () => {
    const codec = compileCodec(protocol);
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 512 }),
        fc.integer({ min: 1, max: 4096 }),
        (maxRows, maxTokens) => {
          const config = configSchema.parse({ decode: { maxRows, maxBatchTokens: maxTokens } });
          const tokens = maxTokens + maxRows;
          const row = { request: 1, attempt: 0, index: 0, count: 1, finish: 0, drafts: 0 };
          const message = {
            type: "tokens",
            pair: 0,
            role: 1,
            rows: Array(maxRows).fill({ ...row, accepted: 0, cachedTokens: 0, logprobs: 1, top: 20 }),
            ids: new Uint32Array(tokens),
            logprobs: new Float32Array(tokens),
            topIds: new Uint32Array(20 * tokens),
            topLogprobs: new Float32Array(20 * tokens),
          } as const;
          const bytes = codec.sizeOf(codec.typeOf(message), message);
          expect(bytes + 16).toBeLessThanOrEqual(leastRingBytes(config) / 2);
        },
      ),
      { numRuns: 30 },
    );
  });
});
