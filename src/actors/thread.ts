import { carryModule } from "../runtime/threads/loading.js";

/**
 * The entry of an actor's thread in the bundled program (scripts/bundle.mjs): one file that carries the modules of all
 * our actors, since to find and read some thirty files takes a thread longer than to run them.
 */

const carry = (name: string, load: () => Promise<Record<string, unknown>>): void =>
  carryModule(new URL(`./${name}.js`, import.meta.url).href, load);

carry("messages", () => import("./messages.js"));
carry("scheduler", () => import("./scheduler.js"));
carry("router", () => import("./router.js"));
carry("prefill-lane", () => import("./prefill-lane.js"));
carry("decode-lane", () => import("./decode-lane.js"));
carry("tuner", () => import("./tuner.js"));
carry("lane-resources", () => import("./lane-resources.js"));

void import("../runtime/threads/worker-main.js");
