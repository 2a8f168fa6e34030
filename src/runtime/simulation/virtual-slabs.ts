import type { SlabAllocator, SlabSpec } from "../actor.js";
import { RuntimeError } from "../runtime-error.js";
import type { SlabRef } from "../schema.js";
import { Slab, slabBytes } from "../slab.js";

/** The slabs of a simulated system; a slab is laid out when it is first used. */
export class VirtualSlabs {
  private readonly buffers: ArrayBuffer[];
  private readonly owned = new Map<string, Slab>();

  constructor(private readonly specs: readonly SlabSpec[]) {
    this.buffers = specs.map(({ bytes }) => new ArrayBuffer(bytes & ~7));
  }

  bytes(ref: SlabRef): Uint8Array {
    return slabBytes(this.buffers, ref);
  }

  ownedBy(actor: string): SlabAllocator {
    let slab = this.owned.get(actor);
    if (slab === undefined) {
      const index = this.specs.findIndex(({ owner }) => owner === actor);
      const buffer = this.buffers[index];
      if (buffer === undefined) throw new RuntimeError("slab_invalid", `"${actor}" owns no slab.`);
      slab = new Slab(index, buffer);
      this.owned.set(actor, slab);
    }
    return slab;
  }
}
