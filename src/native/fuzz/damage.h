// Damages files for fuzzing without libFuzzer.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <random>
#include <vector>

namespace streamserve {

// Up to four changes: a flipped bit, an odd number in place of eight bytes, a cut, a few bytes more.
inline void damage(std::vector<uint8_t>& bytes, std::mt19937_64& random) {
  static constexpr uint64_t kOdd[] = {
      0, 1, 0x7f, 0xff, 0xffff, 0xffffffff, uint64_t{1} << 31, uint64_t{1} << 63, ~uint64_t{0}};
  for (uint64_t changes = 1 + random() % 4; changes > 0 && !bytes.empty(); --changes) {
    const size_t at = random() % bytes.size();
    switch (random() % 4) {
      case 0:
        bytes[at] ^= static_cast<uint8_t>(1 << random() % 8);
        break;
      case 1: {
        const uint64_t value = kOdd[random() % std::size(kOdd)];
        std::memcpy(bytes.data() + at, &value, std::min(sizeof value, bytes.size() - at));
        break;
      }
      case 2:
        bytes.resize(at);
        break;
      default:
        bytes.insert(bytes.begin() + static_cast<ptrdiff_t>(at), 1 + random() % 9,
                     static_cast<uint8_t>(random()));
    }
  }
}

}  // namespace streamserve
