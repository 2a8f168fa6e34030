import { readFileSync } from "node:fs";
import { BenchError } from "../bench-error.js";

/** Log-probabilities below this are not kept apart in the file, and not compared: as the peer does it. */
const LEAST_LOGPROB = -16;
const MAGIC = "_logits_";
const HEADER_BYTES = 20;
/** Of a row: scale and least log-probability as floats, in the place of four steps. */
const ROW_PREFIX = 4;

/**
 * What llama.cpp's `llama-perplexity --kl-divergence-base` writes: windows of token ids and, for the later half of each,
 * the log-probabilities of every next id, in 65,536 steps a row.
 */
export class Truth {
  readonly windows: readonly Uint32Array[];
  /** First position of a window whose next id counts. */
  readonly from: number;
  readonly #steps: Uint16Array;
  readonly #floats: Float32Array;
  readonly #vocabulary: number;
  readonly #rowSteps: number;

  constructor(file: string) {
    const bytes = readFileSync(file);
    const [context, vocabulary, count] = [8, 12, 16].map((at) => bytes.readInt32LE(at)) as [
      number,
      number,
      number,
    ];
    this.from = Math.floor(context / 2);
    this.#vocabulary = vocabulary;
    this.#rowSteps = 2 * Math.floor((vocabulary + 1) / 2) + ROW_PREFIX;
    const idBytes = context * count * 4;
    const stepBytes = count * this.rows * this.#rowSteps * 2;
    if (bytes.toString("latin1", 0, 8) !== MAGIC || bytes.length !== HEADER_BYTES + idBytes + stepBytes) {
      throw new BenchError(
        `${file} is not what llama-perplexity writes: the pinned version and this differ.`,
      );
    }
    const ids = new Uint32Array(
      bytes.buffer.slice(bytes.byteOffset + HEADER_BYTES, bytes.byteOffset + HEADER_BYTES + idBytes),
    );
    this.windows = Array.from({ length: count }, (_, i) => ids.subarray(i * context, (i + 1) * context));
    const at = bytes.byteOffset + HEADER_BYTES + idBytes;
    const buffer = bytes.buffer.slice(at, at + stepBytes);
    this.#steps = new Uint16Array(buffer);
    this.#floats = new Float32Array(buffer);
  }

  /** Positions of a window whose next id is known and counts. */
  get rows(): number {
    return 2 * this.from - 1 - this.from;
  }

  /** The log-probability that the truth gives `id` after position `from + row` of a window. */
  logprob(window: number, row: number, id: number): number {
    const at = (window * this.rows + row) * this.#rowSteps;
    return this.#floats[at / 2]! * this.#steps[at + ROW_PREFIX + id]! + this.#floats[at / 2 + 1]!;
  }

  /** Compares `own`, natural-log probabilities after position `from + row` of a window, with the truth. */
  compare(window: number, row: number, own: Float32Array): { divergence: number; sameChoice: boolean } {
    const at = (window * this.rows + row) * this.#rowSteps;
    const scale = this.#floats[at / 2]!;
    const least = this.#floats[at / 2 + 1]!;
    let divergence = 0;
    let best = 0;
    let ownBest = 0;
    for (let id = 0; id < this.#vocabulary; id++) {
      const step = this.#steps[at + ROW_PREFIX + id]!;
      if (step > this.#steps[at + ROW_PREFIX + best]!) best = id;
      if (own[id]! > own[ownBest]!) ownBest = id;
      const logprob = scale * step + least;
      if (logprob > LEAST_LOGPROB) divergence += Math.exp(logprob) * (logprob - own[id]!);
    }
    return { divergence, sameChoice: best === ownBest };
  }
}
