#include "kv/leaf_heap.h"

namespace streamserve {

void LeafHeap::add(uint32_t block) {
  items_.push_back(block);
  rise(items_.size() - 1, block);
}

void LeafHeap::remove(uint32_t block) {
  const size_t place = places_[block];
  const uint32_t last = items_.back();
  items_.pop_back();
  if (last == block) return;
  rise(place, last);
  sink(places_[last], last);
}

void LeafHeap::put(size_t place, uint32_t block) {
  items_[place] = block;
  places_[block] = static_cast<uint32_t>(place);
}

void LeafHeap::rise(size_t place, uint32_t block) {
  while (place > 0) {
    const size_t above = (place - 1) / 2;
    if (!before(block, items_[above])) break;
    put(place, items_[above]);
    place = above;
  }
  put(place, block);
}

void LeafHeap::sink(size_t place, uint32_t block) {
  for (;;) {
    size_t below = 2 * place + 1;
    if (below >= items_.size()) break;
    if (below + 1 < items_.size() && before(items_[below + 1], items_[below])) ++below;
    if (!before(items_[below], block)) break;
    put(place, items_[below]);
    place = below;
  }
  put(place, block);
}

}  // namespace streamserve
