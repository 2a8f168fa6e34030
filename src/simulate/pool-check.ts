import { NO_LANE, type SimulatedPool } from "../engine/simulated-pool.js";

/** Marks a block as free or cached; no block has so many holders. */
const SPARE = 0xffffffff;

/**
 * What must hold of a KV pool at any moment. Returns the first thing that does not, as a sentence, or
 * undefined.
 */
export function checkPool(pool: SimulatedPool): string | undefined {
  const { blocks } = pool;
  const holders = new Uint32Array(blocks.total);
  for (const sequence of pool.sequences) {
    if (sequence.inStep && !sequence.live)
      return `sequence ${sequence.index} was freed while a step computes it`;
    if (!sequence.live) continue;
    const room = sequence.blocks.length * blocks.blockTokens;
    if (sequence.tokens.length > room)
      return `sequence ${sequence.index} holds more tokens than its blocks do`;
    if (sequence.owner === NO_LANE) return `sequence ${sequence.index} has no owner`;
    for (const block of sequence.blocks) holders[block] = (holders[block] as number) + 1;
  }
  let used = 0;
  for (let block = 0; block < blocks.total; block++) {
    const references = blocks.references[block] as number;
    if (holders[block] !== references) {
      return `block ${block} is counted ${references} times but held ${holders[block]} times`;
    }
    if (references > 0) used++;
  }
  for (const block of blocks.cachedList()) {
    if (holders[block] !== 0) return `block ${block} is in use and up for eviction`;
    holders[block] = SPARE;
  }
  const free = blocks.freeList();
  for (const block of free) {
    if (holders[block] === SPARE) return `block ${block} is free or cached twice`;
    if (holders[block] !== 0) return `block ${block} is free and in use`;
    holders[block] = SPARE;
  }
  if (used + free.length + blocks.cached !== blocks.total) {
    return `of ${blocks.total} blocks ${used} are used, ${free.length} free and ${blocks.cached} cached: some are lost`;
  }
  return undefined;
}
