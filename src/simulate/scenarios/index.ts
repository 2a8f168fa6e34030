import type { Scenario } from "../scenario.js";
import { CLASSES } from "./classes.js";
import { EVERYDAY } from "./everyday.js";
import { HAZARDS } from "./hazards.js";

/** All named scenarios. */
export const SCENARIOS: readonly Scenario[] = [...HAZARDS, ...EVERYDAY, ...CLASSES];
