import type { PlantedBug } from "./bug.js";
import { ENGINE_BUGS } from "./engine-bugs.js";
import { MESSAGE_BUGS } from "./message-bugs.js";
import { SERVICE_BUGS } from "./service-bugs.js";

/** All planted bugs. */
export const PLANTED_BUGS: readonly PlantedBug[] = [...MESSAGE_BUGS, ...ENGINE_BUGS, ...SERVICE_BUGS];
