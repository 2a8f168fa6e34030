import { resolveModel } from "#streamserve/model/resolve.js";
import { copyIn, formatNamed } from "../accuracy/peer.js";
import { buildLlamaCpp } from "../peer/build-llama-cpp.js";

/** The file of a model as shipped or, with `format`, of a copy in that format, made once and kept. */
export async function modelFile(
  { model, format }: { readonly model: string; readonly format?: string },
  say: (text: string) => void,
): Promise<string> {
  const shipped = await resolveModel(model);
  return format === undefined ? shipped : copyIn(await buildLlamaCpp(say), shipped, formatNamed(format));
}
