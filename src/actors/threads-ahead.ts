import { stockThreads } from "../runtime/threads/thread-stock.js";

/** Scheduler, router and tuner, and the two lanes of a pair: the fewest that a configuration can have. */
const LEAST_ACTORS = 5;

/** Starts the threads that any configuration needs, for a start that has other things to do first. */
export function startThreadsAhead(): void {
  stockThreads(LEAST_ACTORS);
}
