import { native } from "./native-addon.js";

/** GGUF's numbers of the formats that weights can be written in, and the bytes of their blocks. */
export const QUANTISED_FORMATS = {
  f32: { number: 0, blockElements: 1, blockBytes: 4, fileType: 0 },
  f16: { number: 1, blockElements: 1, blockBytes: 2, fileType: 1 },
  bf16: { number: 30, blockElements: 1, blockBytes: 2, fileType: 32 },
  q8_0: { number: 8, blockElements: 32, blockBytes: 34, fileType: 7 },
  q4_0: { number: 2, blockElements: 32, blockBytes: 18, fileType: 2 },
  q4_1: { number: 3, blockElements: 32, blockBytes: 20, fileType: 3 },
} as const;

export type QuantisedFormat = keyof typeof QUANTISED_FORMATS;

/** A model opened to have its tensors written in other formats. */
export class Quantiser {
  readonly #source: number;
  readonly #threads: number;

  /** Throws the `model_*` errors. */
  constructor(path: string, threads: number) {
    this.#source = native((addon) => addon.openSource(path));
    this.#threads = threads;
  }

  /**
   * The bytes of a tensor in `format`. `importance`: how much the squared error of each column counts; all alike if
   * absent. Blocks the thread. Throws `model_format_unsupported` and `model_file_invalid`.
   */
  tensor(name: string, format: QuantisedFormat, importance: Float32Array = new Float32Array()): Uint8Array {
    const { number } = QUANTISED_FORMATS[format];
    return native((addon) => addon.quantise(this.#source, name, number, importance, this.#threads));
  }

  close(): void {
    native((addon) => addon.closeSource(this.#source));
  }
}
