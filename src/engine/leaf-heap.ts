/** No block. */
export const NO_BLOCK = -1;

/** Blocks by how long they have been idle, the longest first; each in one heap at most. */
export class LeafHeap {
  readonly #items: number[] = [];

  constructor(
    readonly since: Float64Array,
    /** Place of each block in its heap; shared by all heaps. */
    readonly places: Int32Array,
  ) {}

  get first(): number {
    return this.#items[0] ?? NO_BLOCK;
  }

  add(block: number): void {
    this.#items.push(block);
    this.#rise(this.#items.length - 1, block);
  }

  remove(block: number): void {
    const place = this.places[block]!;
    const last = this.#items.pop()!;
    if (last === block) return;
    this.#rise(place, last);
    this.#sink(this.places[last]!, last);
  }

  /** Of equally long idle ones the lower number goes first, so that runs repeat. */
  #before(a: number, b: number): boolean {
    return this.since[a]! < this.since[b]! || (this.since[a] === this.since[b] && a < b);
  }

  #put(place: number, block: number): void {
    this.#items[place] = block;
    this.places[block] = place;
  }

  #rise(from: number, block: number): void {
    let place = from;
    while (place > 0) {
      const above = this.#items[(place - 1) >> 1]!;
      if (!this.#before(block, above)) break;
      this.#put(place, above);
      place = (place - 1) >> 1;
    }
    this.#put(place, block);
  }

  #sink(from: number, block: number): void {
    let place = from;
    for (;;) {
      let below = 2 * place + 1;
      if (below >= this.#items.length) break;
      if (below + 1 < this.#items.length && this.#before(this.#items[below + 1]!, this.#items[below]!))
        below++;
      if (!this.#before(this.#items[below]!, block)) break;
      this.#put(place, this.#items[below]!);
      place = below;
    }
    this.#put(place, block);
  }
}
