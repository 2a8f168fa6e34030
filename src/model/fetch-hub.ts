import { Readable } from "node:stream";
import { StreamServeError } from "../errors.js";
import type { HubSource } from "./catalogue.js";

/** Fetches a file from the Hugging Face hub, or from the mirror that `HF_ENDPOINT` names. */

/** The hub's first answer, which names the file's size and place, must come within this. */
const ANSWER_MS = 30_000;

/** The file's content as a stream, and its size. Throws `model_download_failed`. */
export async function openHubFile(source: HubSource): Promise<{ stream: Readable; bytes: number }> {
  const { downloadFile } = await import("@huggingface/hub");
  const endpoint = process.env.HF_ENDPOINT;
  const token = process.env.HF_TOKEN;
  const blob = await within(
    ANSWER_MS,
    downloadFile({
      repo: source.repository,
      path: source.file,
      revision: source.revision,
      ...(endpoint ? { hubUrl: endpoint } : {}),
      ...(token ? { accessToken: token } : {}),
    }),
  );
  if (blob === null) {
    throw new StreamServeError("model_download_failed", `${source.repository} has no file ${source.file}.`);
  }
  return { stream: Readable.fromWeb(blob.stream()), bytes: blob.size };
}

async function within<T>(ms: number, answer: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_resolve, reject) => {
    const silence = new StreamServeError(
      "model_download_failed",
      `the hub did not answer within ${ms / 1000} s`,
    );
    timer = setTimeout(reject, ms, silence);
  });
  try {
    return await Promise.race([answer, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
