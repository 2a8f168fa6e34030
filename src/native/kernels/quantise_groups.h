// Groups of 32 values rounded to int8, sixteen side by side, so that maxima, divisions and the order of words
// in a panel are vector operations. Include after a lanes_*.h.
#pragma once

#include <algorithm>

#include "layout.h"

namespace streamserve {
namespace {

// A group whose largest magnitude is below this is taken as zero: its scale would not be a normal number.
inline constexpr float kSmallestMagnitude = 0x1p-110F;
inline constexpr uint32_t kInfinityBits = 0x7F800000U;
// Adding and subtracting it rounds to the nearest whole number, ties to even, for magnitudes up to 2^22.
inline constexpr float kRounder = 0x1.8p23F;

// How values whose largest magnitude has these bits become int8: as round(x * inverse), worth `scale` each.
// `inverse` is 0 where they become 0: because they are too small, or, with a scale that is NaN, not finite.
struct Int8Scale {
  float scale;
  float inverse;
};

inline Int8Scale int8_scale(uint32_t largest_bits) {
  const float largest = __builtin_bit_cast(float, largest_bits);
  if (largest_bits >= kInfinityBits) return {__builtin_nanf(""), 0.0F};
  if (largest < kSmallestMagnitude) return {0.0F, 0.0F};
  return {largest / 127.0F, 127.0F / largest};
}

// Where tokens of a panel lie: `count` of them, the first being the panel's token `index`.
struct PanelPart {
  uint8_t* panel;
  uint32_t width;
  uint32_t index;
  uint32_t count;
};

// Up to sixteen groups: those of `count` tokens in `groups` neighbouring groups of k, group by group.
// put() them, round() them, then store() them.
class GroupsAtOnce {
 public:
  GroupsAtOnce() {
    for (uint32_t item = 0; item < kLanes; item++) put(item, broadcast(1.0F), broadcast(1.0F));
  }

  void put(uint32_t item, const Lanes& a, const Lanes& b) {
    store(values_[item], a);
    store(values_[item] + kLanes, b);
    magnitudes_[item] = larger_magnitude(a, b);
  }

  // With scale = largest / 127. Values that are not finite make the scale NaN, so that they show in every
  // output instead of vanishing.
  void round() {
    const Lanes largest = largest_of_each(magnitudes_);
    store(scales_, divide(largest, broadcast(127.0F)));
    store(inverses_, divide(broadcast(127.0F), largest));
    if (!all_within(largest, kSmallestMagnitude, kInfinityBits)) round_specials(largest);
    round_words(values_, inverses_, words_);
  }

  // Stores `groups` groups of k, from `group` on, of the part's tokens.
  void store_groups(Packing packing, const PanelPart& part, uint32_t group, uint32_t groups) const {
    const Packing working = working_packing(packing);
    const size_t group_bytes = part.width * activation_group_bytes(packing);
    uint8_t* base = part.panel + group * group_bytes;
    const Words half = sum_of_bytes(words_[0], words_[1], words_[2], words_[3]);
    const Words rest = sum_of_bytes(words_[4], words_[5], words_[6], words_[7]);
    Words corrections[2];
    if (is_affine(working)) {
      corrections[0] = bits_of(multiply(load(scales_), to_floats(add_words(half, rest))));
    } else if (working == Packing::kWideHalves) {
      corrections[0] = minus_times(kDotStart, zero_point(working), half);
      corrections[1] = minus_times(kDotStart, zero_point(working), rest);
    } else {
      corrections[0] = minus_times(kDotStart, zero_point(working), add_words(half, rest));
    }
    const uint32_t lines = activation_group_bytes(packing) / kWord;
    const Words scales = bits_of(load(scales_));
    const auto line = [&](uint32_t l) -> const Words& {
      return l < kWordsPerGroup    ? words_[l]
             : l == kWordsPerGroup ? scales
                                   : corrections[l - kWordsPerGroup - 1];
    };
    if (groups == 1) {
#pragma GCC unroll 16
      for (uint32_t l = 0; l < lines; l++) {
        store_some_words(base + (l * part.width + part.index) * kWord, line(l), part.count);
      }
      return;
    }
    alignas(64) uint8_t sorted[(kWordsPerGroup + 3) * kLanes * kWord];
    for (uint32_t l = 0; l < lines; l++) store_some_words(sorted + l * kLanes * kWord, line(l), kLanes);
    for (uint32_t g = 0; g < groups; g++) {
      for (uint32_t t = 0; t < part.count; t++) {
        const uint8_t* item = sorted + (g * part.count + t) * kWord;
        uint8_t* to = base + g * group_bytes + (part.index + t) * kWord;
        for (uint32_t l = 0; l < lines; l++) {
          std::memcpy(to + l * part.width * kWord, item + l * kLanes * kWord, kWord);
        }
      }
    }
  }

  // What rounding took from values a and b of an item: x - int8 * scale.
  void put_rest(uint32_t item) {
    const Int8Scale scale{scales_[item], inverses_[item]};
    put(item, rest_of(load(values_[item]), scale), rest_of(load(values_[item] + kLanes), scale));
  }

 private:
  static Lanes rest_of(const Lanes& x, const Int8Scale& scale) {
    if (!(scale.inverse > 0.0F)) return zero();
    const Lanes rounder = broadcast(kRounder);
    const Lanes rounded = subtract(add(multiply(x, broadcast(scale.inverse)), rounder), rounder);
    return subtract(x, multiply(rounded, broadcast(scale.scale)));
  }

  // Groups that become zero are made so before they are rounded.
  void round_specials(const Lanes& largest) {
    alignas(64) uint32_t bits[kLanes];
    store_some_words(reinterpret_cast<uint8_t*>(bits), bits_of(largest), kLanes);
    for (uint32_t item = 0; item < kLanes; item++) {
      const auto [scale, inverse] = int8_scale(bits[item]);
      scales_[item] = scale;
      inverses_[item] = inverse;
      if (inverse > 0.0F) continue;
      std::fill_n(values_[item], kGroup, 0.0F);
    }
  }

  alignas(64) float values_[kLanes][kGroup];
  alignas(64) float scales_[kLanes];
  alignas(64) float inverses_[kLanes];
  Lanes magnitudes_[kLanes];
  Words words_[kWordsPerGroup];
};

}  // namespace
}  // namespace streamserve
