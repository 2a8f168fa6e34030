// Idle blocks by how long they have been idle.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace streamserve {

inline constexpr uint32_t kNoBlock = ~uint32_t{0};

// A binary heap, the longest idle block first; of equals the lower number, so that runs repeat. A block is in
// one heap at most: all heaps share `places`, where each block's place in its heap is kept. Nothing here
// allocates.
class LeafHeap {
 public:
  // `since[block]`: since when a block is idle. Both must outlive the heap and have an element a block.
  LeafHeap(std::span<const uint64_t> since, std::span<uint32_t> places) : since_(since), places_(places) {
    items_.reserve(since.size());
  }

  uint32_t first() const { return items_.empty() ? kNoBlock : items_.front(); }
  void add(uint32_t block);
  // `block` must be in this heap.
  void remove(uint32_t block);

 private:
  bool before(uint32_t a, uint32_t b) const {
    return since_[a] < since_[b] || (since_[a] == since_[b] && a < b);
  }
  void put(size_t place, uint32_t block);
  void rise(size_t place, uint32_t block);
  void sink(size_t place, uint32_t block);

  std::span<const uint64_t> since_;
  std::span<uint32_t> places_;
  std::vector<uint32_t> items_;
};

}  // namespace streamserve
