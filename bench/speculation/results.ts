import type { DatasetName } from "../load/dataset.js";
import type { Adapting } from "./adapting.js";
import type { Cell } from "./cell.js";
import type { Ideal } from "./ideal.js";

/** What `bench speculation` was asked for. */
export interface SpeculationOptions {
  readonly model: string;
  readonly threads: number;
  readonly dataset: DatasetName | "all";
  readonly loads: readonly number[];
  readonly depths: readonly number[];
  readonly rounds: number;
  readonly tokens: number;
  readonly draftModel?: string;
  readonly withoutAnswers?: boolean;
  readonly full?: boolean;
  readonly json?: string;
}

/** What a set gave: its cells, how fast the depth followed changes of load, and what an ideal chooser would gain. */
export interface SetResult {
  readonly dataset: DatasetName;
  readonly cells: readonly Cell[];
  readonly adapting: readonly Adapting[];
  readonly ideal: Ideal | undefined;
}
