import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { readAnswers } from "../dist/actors/read-answers.js";
import { configSchema } from "../dist/config/schema.js";
import { encodeRecording } from "../dist/model/recording.js";
import { answersOf } from "../dist/model/resolve.js";
import { KNOWN, LaneDrafts, OWN, RECENT, RowDrafts } from "../dist/policy/drafting.js";
import { answersTable, knownAnswers, rememberAnswer } from "../dist/policy/known-answers.js";

const limits = configSchema.parse({}).speculation;

function tableOf(answer: readonly number[]): SharedArrayBuffer {
  const table = answersTable(answer.length);
  rememberAnswer(table, answer);
  return table;
}

const known = () => knownAnswers(tableOf([10, 11, 12, 13, 14, 15]));

function rowOf(lane: LaneDrafts, prompt: readonly number[], tenant = 0): RowDrafts {
  const row = new RowDrafts(lane, tenant, 1000, false);
  row.read(prompt);
  return row;
}

describe("known answers", () => {
  test("are drafted from where a tenant has said nothing yet, whoever asks", () => {
    const lane = new LaneDrafts(limits, known());
    for (const tenant of [1, 2]) {
      const row = rowOf(lane, [50, 10, 11], tenant);
      const into = new Uint32Array(8);
      expect(row.draft(into, 0, 3)).toBe(3);
      expect([...into.subarray(0, 3)]).toEqual([12, 13, 14]);
      expect(new Set(row.makers.subarray(0, 3))).toEqual(new Set([KNOWN]));
    }
  });

  test("learn nothing of what any tenant says", () => {
    const memory = tableOf([10, 11, 12]);
    const before = Buffer.from(memory).toString("hex");
    const row = rowOf(new LaneDrafts(limits, knownAnswers(memory)), [10, 11]);
    row.accept([12, 13, 14, 10, 11, 13]);
    expect(Buffer.from(memory).toString("hex")).toBe(before);
  });

  test("give way to the request's own text, once they were wrong", () => {
    const lane = new LaneDrafts(limits, known());
    const row = rowOf(lane, [50]);
    for (let i = 0; i < 40; i++) row.accept([10, 11, 20 + (i % 2)]);
    row.accept([10, 11]);
    const into = new Uint32Array(8);
    expect(row.draft(into, 0, 1)).toBe(1);
    expect(into[0]).toBe(20);
    expect([OWN, RECENT]).toContain(row.makers[0]);
  });

  test("take bounded memory", () => {
    expect(answersTable(10_000_000).byteLength).toBeLessThanOrEqual(1 << 20);
  });
});

describe("the file of known answers", () => {
  const folder = mkdtempSync(join(tmpdir(), "answers-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const file = (name: string, text: string) => {
    const path = join(folder, name);
    writeFileSync(path, text);
    return path;
  };
  const asked = (path: string) => configSchema.parse({ speculation: { knownAnswers: path } });
  const recorded = (answer: readonly number[]) =>
    JSON.stringify(
      encodeRecording({
        set: "own",
        model: "m",
        command: "c",
        maxTokens: 8,
        requests: [{ prompt: Uint32Array.of(1), answer: Uint32Array.from(answer) }],
      }),
    );

  test("comes with a model of the catalogue, and fits its vocabulary", async () => {
    const path = answersOf("smollm2-135m-instruct");
    expect(path).toBeDefined();
    const read = readAnswers(asked(path!), 49_152)!;
    // Its timer holds no process: something else does here.
    const awake = setInterval(() => {}, 1000);
    await read.filled;
    clearInterval(awake);
    expect(new Int32Array(read.table).some((word) => word !== 0)).toBe(true);
    // A second runtime in the process shares it.
    expect(readAnswers(asked(path!), 49_152)).toBe(read);
    expect(answersOf("./some.gguf")).toBeUndefined();
  });

  test("is refused where it is no recording, or has tokens that the model has not", () => {
    const code = { code: "config_invalid", details: { key: "speculation.knownAnswers" } };
    const refused = (path: string) => {
      expect(() => readAnswers(asked(path), 100)).toThrow(expect.objectContaining(code));
    };
    refused(join(folder, "missing.json"));
    refused(file("broken.json", "{"));
    refused(file("foreign.json", recorded([1, 100])));
    expect(readAnswers(asked(file("good.json", recorded([1, 99]))), 100)?.table).toBeInstanceOf(
      SharedArrayBuffer,
    );
  });

  test("can be left out", () => {
    expect(readAnswers(asked("none"), 100)).toBeUndefined();
    expect(readAnswers(configSchema.parse({}), 100)).toBeUndefined();
  });
});
