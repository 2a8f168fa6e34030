import type { LaneEngine } from "../engine/engine.js";
import type { LaneDrafts } from "../policy/drafting.js";
import { DecodeRow } from "./decode-row.js";
import type { MessageNamed } from "./messages.js";
import { copyPrompt, readSampling } from "./prompt-region.js";
import { NOTHING_CARRIED } from "./token-batch.js";

/**
 * A row of a decode lane for a prompt that no prefill lane has seen: what the prefix cache does not hold is computed
 * chunk by chunk in the lane's own steps, to the same tokens. `region` is what `route.prompt` names. Throws what
 * `createSequence` throws.
 */
export function openPrompt(
  engine: LaneEngine,
  route: MessageNamed<"route">,
  region: Uint8Array,
  drafts: LaneDrafts | undefined,
): DecodeRow {
  const prompt = copyPrompt(route, region);
  const salt = [route.salt0, route.salt1] as const;
  const sampling = readSampling(route, region);
  const { handle, cachedTokens } = engine.createSequence(prompt, route.outputFrom, sampling, salt);
  const journey: MessageNamed<"handoff"> = {
    ...route,
    type: "handoff",
    handle: handle.index,
    epoch: handle.epoch,
    moved: 0,
    cachedTokens,
    ...NOTHING_CARRIED,
  };
  return new DecodeRow(journey, handle, prompt, drafts, prompt.subarray(cachedTokens), engine.draft);
}
