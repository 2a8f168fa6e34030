import { loadConfig } from "../config/load.js";
import { readCatalogue } from "../model/catalogue.js";
import { findModel, resolveModel } from "../model/resolve.js";
import { fetchReporter } from "./progress.js";

/** `streamserve pull`: fetches a catalogue model ahead of its first use. */

/** The model's path, with the fetch, if there is one, shown on stderr. */
export async function fetchShown(model: string): Promise<string> {
  const reporter = fetchReporter(model);
  try {
    return await resolveModel(model, reporter.report);
  } finally {
    reporter.end();
  }
}

/** Fetches a model, by default the configured one, and prints the path of its file on stdout. */
export async function pull(model: string | undefined, config: string | undefined): Promise<void> {
  process.stdout.write(`${await fetchShown(model ?? loadConfig({ config }).model)}\n`);
}

/** Prints the catalogue: name, size, licence, whether it is here, what it is. */
export async function listModels(): Promise<void> {
  for (const [name, entry] of readCatalogue()) {
    const here = (await findModel(name)) === undefined ? "not fetched" : "fetched";
    process.stdout.write(
      `${name}  ${Math.round(entry.bytes / 1e6)} MB  ${entry.licence}  ${here}\n  ${entry.description}\n`,
    );
  }
}
