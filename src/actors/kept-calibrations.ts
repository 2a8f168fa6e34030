import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { cpus } from "node:os";
import { join } from "node:path";
import type { Config } from "../config/schema.js";
import type { EngineInfo } from "../engine/native-engine.js";
import { packedCache } from "../engine/packed-cache.js";
import type { Calibration } from "./calibrate.js";
import type { Calibrations } from "./step-cost-priors.js";

/** Times of steps kept between starts, beside the packed weights: lanes learn on from them, so they need not be fresh. */

/** Raise it when kernels or what is timed change so much that old times mislead. */
const VERSION = 3;
const SUFFIX = ".step-costs.json";
/** One a model and configuration, a kilobyte each; the oldest go. */
const MOST_FILES = 64;
const MOST_POINTS = 256;
/** No step takes as long, in milliseconds. */
const MOST_MS = 1e6;

/** Times kept of earlier starts, or else `measure`d now and kept, if the configuration keeps anything. */
export function keptCalibrations(
  config: Config,
  engine: EngineInfo,
  modelPath: string,
  measure: () => Calibrations,
): Calibrations {
  const { directory, bytes } = packedCache(config.engine);
  if (bytes === 0 || config.stepCost.calibrateMs === 0) return measure();
  const path = join(directory, `${keyOf(config, engine, modelPath)}${SUFFIX}`);
  const kept = read(path);
  if (kept !== undefined) return kept;
  const measured = measure();
  keep(directory, path, measured);
  return measured;
}

/** All that times depend on. */
function keyOf(config: Config, engine: EngineInfo, modelPath: string): string {
  const { size, mtimeMs } = statSync(modelPath);
  const { instructionSet, threads, contextTokens, kvBytes } = engine;
  const { maxRows, maxBatchTokens } = config.prefill;
  const limits = [maxRows, maxBatchTokens, config.decode.maxRows, config.decode.maxBatchTokens];
  const model = [modelPath, size, mtimeMs, instructionSet, threads, contextTokens, kvBytes];
  const machine = [cpus()[0]?.model, cpus().length];
  return createHash("sha256")
    .update(JSON.stringify([VERSION, model, limits, machine, config.stepCost.calibrateMs]))
    .digest("hex")
    .slice(0, 32);
}

function read(path: string): Calibrations | undefined {
  try {
    const { prefill, decode } = JSON.parse(readFileSync(path, "utf8"));
    return isCalibration(prefill) && isCalibration(decode) ? { prefill, decode } : undefined;
  } catch {
    return undefined;
  }
}

/** At least two points, ascending, with times above zero; and whatever else was timed, not below zero. */
function isCalibration(value: unknown): value is Calibration {
  const points: unknown = value instanceof Object && "points" in value ? value.points : undefined;
  if (!Array.isArray(points) || points.length < 2 || points.length > MOST_POINTS) return false;
  const more: unknown = value instanceof Object && "more" in value ? value.more : undefined;
  if (more !== undefined && !(more instanceof Object && Object.values(more).every(isTime))) return false;
  let last = 0;
  return points.every((point) => {
    const rising =
      Number.isInteger(point?.tokens) && point.tokens > last && point.ms > 0 && point.ms < MOST_MS;
    last = point?.tokens;
    return rising;
  });
}

function isTime(value: unknown): boolean {
  return typeof value === "number" && value >= 0 && value < MOST_MS;
}

/** A directory that can't be written only means measuring again. */
function keep(directory: string, path: string, calibrations: Calibrations): void {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    mkdirSync(directory, { recursive: true });
    writeFileSync(temporary, JSON.stringify(calibrations));
    renameSync(temporary, path);
    const files = readdirSync(directory).filter((name) => name.endsWith(SUFFIX));
    const aged = files.map((name) => ({ name, used: statSync(join(directory, name)).mtimeMs }));
    for (const { name } of aged.sort((a, b) => b.used - a.used).slice(MOST_FILES)) {
      rmSync(join(directory, name), { force: true });
    }
  } catch {
    void rm(temporary, { force: true }).catch(() => undefined);
  }
}
