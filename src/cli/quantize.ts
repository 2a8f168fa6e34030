import { availableParallelism } from "node:os";
import { QUANTISED_FORMATS, type QuantisedFormat } from "../engine/quantiser.js";
import { StreamServeError } from "../errors.js";
import { quantise } from "../model/quantise/quantise.js";
import { resolveModel } from "../model/resolve.js";
import { progressDrawing } from "./progress.js";

/** `streamserve quantize`: a model in fewer bits. */

export interface QuantizeOptions {
  readonly format: string;
  readonly head?: string;
  readonly threads?: number;
  readonly requantize?: boolean;
  readonly force?: boolean;
}

/** Writes the file and says on stdout what it is. Throws what `quantise` throws. */
export async function quantize(source: string, out: string, options: QuantizeOptions): Promise<void> {
  const format = formatOf(options.format);
  const path = await resolveModel(source);
  const aborted = new AbortController();
  const abort = () => aborted.abort();
  process.once("SIGINT", abort);
  process.once("SIGTERM", abort);
  const drawing = progressDrawing();
  try {
    const { bytes } = await quantise({
      source: path,
      out,
      format,
      threads: options.threads ?? availableParallelism(),
      requantise: options.requantize ?? false,
      overwrite: options.force ?? false,
      ...(options.head === undefined ? {} : { head: formatOf(options.head) }),
      progress: (done, total) => drawing.show(`Writing ${out} as ${format}`, done, total),
      signal: aborted.signal,
    });
    drawing.end();
    process.stdout.write(`${out}: ${format}, ${(bytes / 1e6).toFixed(1)} MB; the engine opens it\n`);
  } finally {
    drawing.end();
    process.off("SIGINT", abort);
    process.off("SIGTERM", abort);
  }
}

function formatOf(name: string): QuantisedFormat {
  const found = (Object.keys(QUANTISED_FORMATS) as QuantisedFormat[]).find(
    (known) => known === name.toLowerCase(),
  );
  if (found === undefined) {
    throw new StreamServeError(
      "invalid_parameter",
      `"${name}" is no format that can be written: use one of ${Object.keys(QUANTISED_FORMATS).join(", ")}.`,
      { format: name },
    );
  }
  return found;
}
