// What joins two neighbouring symbols: an open-addressing hash table of pairs.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

namespace streamserve {

class PairTable {
 public:
  struct Join {
    uint32_t left;
    uint32_t right;
    // Lower is joined first.
    uint32_t rank;
    // What the two become.
    uint32_t joined;
  };

  // Room for `count` pairs.
  explicit PairTable(size_t count) : slots_(std::bit_ceil(2 * (count + 1)), Join{kFree, 0, 0, 0}) {}

  // A pair that is there already is replaced. No symbol may be 2^32 - 1.
  void set(const Join& join) { slots_[slot(join.left, join.right)] = join; }

  // Nothing if these are not joined.
  const Join* find(uint32_t left, uint32_t right) const {
    const Join& found = slots_[slot(left, right)];
    return found.left == kFree ? nullptr : &found;
  }

 private:
  static constexpr uint32_t kFree = ~uint32_t{0};

  size_t slot(uint32_t left, uint32_t right) const {
    const uint64_t pair = (uint64_t{left} << 32 | right) * 0x9e3779b97f4a7c15;
    const size_t mask = slots_.size() - 1;
    size_t at = (pair >> 32) & mask;
    while (slots_[at].left != kFree && (slots_[at].left != left || slots_[at].right != right)) {
      at = (at + 1) & mask;
    }
    return at;
  }

  std::vector<Join> slots_;
};

}  // namespace streamserve
