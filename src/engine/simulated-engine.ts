import { StreamServeError } from "../errors.js";
import type { Job } from "../runtime/actor.js";
import {
  type CacheSalt,
  type CreatedSequence,
  type KvCounts,
  type LaneEngine,
  type LaneLimits,
  NO_SALT,
  type RowResult,
  type Sampling,
  type SequenceHandle,
  type StepResult,
  type StepRow,
} from "./engine.js";
import type { RunningStep } from "./simulated-cores.js";
import { type StepCostModel, stepMs } from "./simulated-cost.js";
import { draw, kvCell, mix, type SimulatedModel } from "./simulated-model.js";
import type { SimulatedPool, SimulatedSequence } from "./simulated-pool.js";

export interface SimulatedLaneOptions {
  readonly lane: number;
  readonly limits: LaneLimits;
  readonly model: SimulatedModel;
  readonly cost: StepCostModel;
  /** Factor on the time of each step, asked as the step starts: a slow or noisy device. 1 when absent. */
  readonly slowdown?: () => number;
  /** Begins a step that takes so many milliseconds alone, on cores that other lanes use too. Absent: it has its own. */
  readonly begin?: (ms: number) => RunningStep;
  /** The error that a step ends with, asked as it starts; its sequences are then as they were before it. */
  readonly failure?: () => Error | undefined;
}

/** What a step still has to write, with the blocks it was given: later changes to the sequence don't reach it. */
interface PendingRow {
  readonly row: StepRow;
  readonly sequence: SimulatedSequence;
  readonly blocks: readonly number[];
  readonly length: number;
}

interface PendingStep {
  readonly rows: readonly PendingRow[];
  readonly running: RunningStep;
  readonly failure: Error | undefined;
  result?: StepResult;
}

/**
 * A lane of the simulated engine: the contract of `LaneEngine` with the computation replaced by
 * simulated-model.ts and its time by a cost model. KV cells are written when a step ends, as a device
 * writes while the actor does other things.
 */
export class SimulatedLane implements LaneEngine {
  readonly limits: LaneLimits;
  readonly #pool: SimulatedPool;
  readonly #options: SimulatedLaneOptions;
  #step: PendingStep | undefined;

  /** What an earlier holder of the same lane number left in `pool` is the caller's to reclaim first. */
  constructor(pool: SimulatedPool, options: SimulatedLaneOptions) {
    this.#pool = pool;
    this.#options = options;
    this.limits = options.limits;
  }

  createSequence(
    prompt: Uint32Array,
    outputFrom: number,
    sampling: Sampling,
    salt: CacheSalt = NO_SALT,
  ): CreatedSequence {
    const { contextTokens, vocabulary } = this.limits;
    if (prompt.length === 0 || prompt.length > contextTokens) {
      throw invalid(`A prompt of ${prompt.length} tokens does not fit a context of 1 to ${contextTokens}.`);
    }
    if (outputFrom < 0 || outputFrom > prompt.length) throw invalid(`Output can't begin at ${outputFrom}.`);
    if (prompt.some((id) => id >= vocabulary)) throw invalid("A token id is outside the vocabulary.");
    const sequence = this.#pool.create(
      this.#options.lane,
      Array.from(prompt),
      outputFrom,
      sampling,
      mix(salt[0], salt[1]) >>> 0,
    );
    const handle = { index: sequence.index, epoch: sequence.epoch };
    return { handle, cachedTokens: sequence.tokens.length };
  }

  release(sequence: SequenceHandle): void {
    this.#pool.release(this.#options.lane, sequence);
  }

  handOver(sequence: SequenceHandle, toLane: number): void {
    this.#pool.handOver(this.#options.lane, sequence, toLane);
  }

  adopt(sequence: SequenceHandle): void {
    this.#pool.adopt(this.#options.lane, sequence);
  }

  releaseStranded(): void {
    this.#pool.releaseStranded(this.#options.lane);
  }

  length(sequence: SequenceHandle): number {
    return this.#pool.get(this.#options.lane, sequence).tokens.length;
  }

  submit(rows: readonly StepRow[]): Job<StepResult> {
    if (this.#step) throw invalid("A step is running already.");
    const sequences = this.#checked(rows);
    this.#pool.grow(
      sequences.map((sequence, i) => ({ sequence, tokens: (rows[i] as StepRow).tokens.length })),
    );
    let tokens = 0;
    let attended = 0;
    let read = 0;
    const pending = rows.map((row, i) => {
      const sequence = sequences[i] as SimulatedSequence;
      tokens += row.tokens.length;
      attended += row.tokens.length * (sequence.tokens.length + row.tokens.length / 2);
      read += sequence.tokens.length;
      return { row, sequence, blocks: sequence.blocks.slice(), length: sequence.tokens.length };
    });
    const slowdown = this.#options.slowdown?.() ?? 1;
    const aloneMs = stepMs(this.#options.cost, rows.length, tokens, attended, read) * slowdown;
    const running = this.#options.begin?.(aloneMs) ?? { leftMs: 0, ranMs: aloneMs, sharedMs: 0 };
    const step: PendingStep = { rows: pending, running, failure: this.#options.failure?.() };
    this.#step = step;
    const collect = () => this.#finish(step);
    const job = { finished: () => true, collect };
    if (!this.#options.begin) return { ...job, virtualMs: aloneMs };
    return { ...job, virtualMs: running.leftMs, leftMs: () => running.leftMs };
  }

  kv(): KvCounts {
    return this.#pool.counts();
  }

  close(): void {
    try {
      if (this.#step) this.#finish(this.#step);
    } catch {
      // Nobody waits for this step any more, nor for its error.
    }
    this.#pool.reclaim(this.#options.lane);
  }

  #checked(rows: readonly StepRow[]): SimulatedSequence[] {
    const { maxRows, maxBatchTokens, contextTokens, vocabulary } = this.limits;
    if (rows.length === 0 || rows.length > maxRows) throw invalid(`A step takes 1 to ${maxRows} rows.`);
    const seen = new Set<number>();
    let total = 0;
    const sequences = rows.map((row) => {
      const sequence = this.#pool.get(this.#options.lane, row.sequence);
      if (seen.has(sequence.index)) throw invalid("A sequence appears twice in a step.");
      seen.add(sequence.index);
      const count = row.tokens.length;
      total += count;
      if (count === 0 || row.drafts >= count) throw invalid("A row needs a token that is not a draft.");
      if (sequence.tokens.length + count > contextTokens) throw invalid("A row goes beyond the context.");
      for (let i = 0; i < count; i++) {
        if (!((row.tokens[i] as number) < vocabulary)) throw invalid("A token id is outside the vocabulary.");
      }
      return sequence;
    });
    if (total > maxBatchTokens) throw invalid(`A step takes ${maxBatchTokens} tokens, not ${total}.`);
    return sequences;
  }

  #finish(step: PendingStep): StepResult {
    if (step.result) return step.result;
    this.#step = undefined;
    const rows = step.failure ? [] : step.rows.map((pending) => this.#computeRow(pending));
    for (const { sequence } of step.rows) this.#pool.settle(sequence);
    if (step.failure) throw step.failure;
    const { ranMs, sharedMs } = step.running;
    step.result = { rows, computeMs: ranMs, waitMs: 0, sharedMs };
    return step.result;
  }

  #computeRow({ row, sequence, blocks, length }: PendingRow): RowResult {
    const { model } = this.#options;
    const size = this.limits.blockTokens;
    const memory = this.#pool.blocks;
    let sum = 0;
    const full = Math.floor(length / size);
    for (let b = 0; b < full; b++) sum = (sum + (memory.sums[blocks[b] as number] as number)) | 0;
    const partial = (blocks[full] ?? 0) * size;
    for (let slot = 0; slot < length % size; slot++)
      sum = (sum + (memory.cells[partial + slot] as number)) | 0;
    const count = row.tokens.length;
    const sums: number[] = [];
    for (let i = 0; i < count; i++) {
      const position = length + i;
      const cell = kvCell(model, sum, row.tokens[i] as number);
      memory.write(blocks[Math.floor(position / size)] as number, position % size, cell);
      sum = (sum + cell) | 0;
      sums.push(sum);
    }
    const drawn: { token: number; stopped: boolean; logprob: number }[] = [];
    let accepted = 0;
    for (let i = count - 1 - row.drafts; row.sample && i < count; i++) {
      const index = length + i + 1 - sequence.outputFrom;
      const last = row.tokens[i] as number;
      const token = draw(model, sequence.sampling, sequence.digest, sums[i] as number, last, index);
      drawn.push(token);
      if (token.stopped || i + 1 === count || row.tokens[i + 1] !== token.token) break;
      accepted++;
    }
    const kept = count - row.drafts + accepted;
    for (let i = 0; i < kept; i++) sequence.tokens.push(row.tokens[i] as number);
    return this.#rowResult(drawn, accepted, sequence.sampling.logprobs);
  }

  #rowResult(
    drawn: readonly { token: number; stopped: boolean; logprob: number }[],
    accepted: number,
    logprobs: number,
  ): RowResult {
    const top = Math.max(0, logprobs);
    const { vocabulary } = this.limits;
    const likeliest = drawn.flatMap(({ token, logprob }) =>
      Array.from({ length: top }, (_, rank) => ({
        id: (token + rank) % vocabulary,
        logprob: logprob - rank,
      })),
    );
    return {
      tokens: Int32Array.from(drawn, ({ token }) => token),
      accepted,
      stopped: drawn.at(-1)?.stopped ?? false,
      logprobs: Float32Array.from(logprobs < 0 ? [] : drawn, ({ logprob }) => logprob),
      topIds: Int32Array.from(likeliest, ({ id }) => id),
      topLogprobs: Float32Array.from(likeliest, ({ logprob }) => logprob),
    };
  }
}

function invalid(message: string): StreamServeError {
  return new StreamServeError("native_argument_invalid", message);
}
