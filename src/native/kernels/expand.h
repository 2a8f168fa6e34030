// Expands packed quants to what micro-kernels multiply: bytes, with scales ready to use. Include after a
// lines_*.h.
#pragma once

#include <utility>

#include "layout.h"

namespace streamserve {
namespace {

// kCodebook + 128: quants of kInt8Symmetric.
alignas(64) inline constexpr uint8_t kCodebookBytes[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                                           129, 141, 153, 166, 181, 197, 217, 241};
static_assert([] {
  for (uint32_t i = 0; i < 16; i++) {
    if (kCodebookBytes[i] != kCodebook[i] + 128) return false;
  }
  return true;
}());

// Bits above the fourth of a word's quants, where they belong in a byte.
template <Packing kPacking, int kWordIndex>
inline Line upper_bits(const uint8_t* quants) {
  const uint8_t* planes = quants + 4 * 64;
  if constexpr (quant_bits(kPacking) == 5) {
    return shifted_right<kWordIndex - 4>(load_line(planes), 0x10);
  } else {
    return shifted_right<kWordIndex % 4 * 2 - 4>(load_line(planes + kWordIndex / 4 * 64), 0x30);
  }
}

template <Packing kPacking, int kWordIndex>
inline void expand_word(const uint8_t* quants, uint8_t* lines) {
  Line x = shifted_right<kWordIndex % 2 * 4>(load_line(quants + kWordIndex / 2 * 64), 15);
  if constexpr (quant_bits(kPacking) > 4) x = either(x, upper_bits<kPacking, kWordIndex>(quants));
  if constexpr (kPacking == Packing::kInt4Codebook) x = looked_up(kCodebookBytes, x);
  // From zero at 16 to zero at 128.
  if constexpr (kPacking == Packing::kInt5Symmetric) x = plus(x, 128 - 16);
  store_line(lines + kWordIndex * 64, x);
}

template <Packing kPacking, int... kWords>
inline void expand_words(const uint8_t* quants, uint8_t* lines, std::integer_sequence<int, kWords...>) {
  (expand_word<kPacking, kWords>(quants, lines), ...);
}

inline const uint16_t* as_f16(const uint8_t* at) { return reinterpret_cast<const uint16_t*>(at); }

// Scales of a group of `tile`, written as the working packing has them.
template <Packing kPacking>
inline void expand_scales(const uint8_t* tile, uint32_t group, uint8_t* to) {
  if constexpr (working_packing(kPacking) == Packing::kInt8Symmetric) {
    std::memcpy(to, tile + group_scales_at(kPacking, group), group_scale_bytes(kPacking));
    return;
  }
  auto* first = reinterpret_cast<float*>(to);
  auto* second = first + kTileRows;
  if constexpr (!is_super(kPacking)) {
    const uint8_t* scales = tile + group_scales_at(kPacking, group);
    store(first, load_f16(as_f16(scales)));
    store(second, load_f16(as_f16(scales) + kTileRows));
    return;
  }
  const uint8_t* unit = tile + unit_at(kPacking, group);
  const uint32_t index = group % unit_groups(kPacking);
  const uint8_t* steps = unit + kSuperScalesAt;
  const Lanes d = load_f16(as_f16(unit));
  if constexpr (is_affine(kPacking)) {
    const Lanes m = load_f16(as_f16(unit) + kTileRows);
    store(first, multiply(d, load_u8(steps + index * kTileRows)));
    store(second, multiply(m, load_u8(steps + (unit_groups(kPacking) + index) * kTileRows)));
  } else {
    store(first, multiply(d, load_i8(steps + 2 * index * kTileRows)));
    store(second, multiply(d, load_i8(steps + (2 * index + 1) * kTileRows)));
  }
}

// Expands groups [group, group + count) of a tile to the start of `out`; `group` is even.
template <Packing kPacking>
inline void expand_groups(const uint8_t* tile, uint32_t group, uint32_t count, uint8_t* out) {
  constexpr Packing kWorking = working_packing(kPacking);
  for (uint32_t g = 0; g < count; g++) {
    expand_scales<kPacking>(tile, group + g, out + group_scales_at(kWorking, g));
    expand_words<kPacking>(tile + group_quants_at(kPacking, group + g), out + group_quants_at(kWorking, g),
                           std::make_integer_sequence<int, kWordsPerGroup>());
  }
}

}  // namespace
}  // namespace streamserve
