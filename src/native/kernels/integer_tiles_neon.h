// Micro-kernels of the quantised packings for 128-bit registers. Include after lines_neon.h and matmul.h.
//
// A register holds a quarter of a line: 4 rows by 4 k. Weights are unpacked two words (8 k) at a time, the
// least that every packing unpacks to and that one matrix instruction takes. `Dots` makes the integer dots of
// a group (or of half of one) for kTokens tokens by kQuarters quarter-tiles; it is all that differs with and
// without the matrix instructions. Sums live in memory (first-level cache): the registers are the dots'.
#pragma once

#include "matmul.h"

namespace streamserve {
namespace {

template <typename Value>
inline Value value_at(const uint8_t* values, uint32_t index) {
  Value value;
  std::memcpy(&value, values + index * sizeof(value), sizeof(value));
  return value;
}

// 8 k of the rows of kQuarters quarter-tiles: two words, unsigned as they are packed.
template <uint32_t kQuarters>
struct WordPair {
  uint8x16_t even[kQuarters];
  uint8x16_t odd[kQuarters];
};

// Words 2 * pair and 2 * pair + 1 of a group whose quants, from the first quarter wanted on, begin at
// `quants`.
template <Packing kPacking, uint32_t kQuarters>
inline __attribute__((always_inline)) WordPair<kQuarters> unpack_pair(const uint8_t* quants, uint32_t pair) {
  WordPair<kQuarters> words;
#pragma GCC unroll 4
  for (uint32_t q = 0; q < kQuarters; q++) {
    if constexpr (quant_bits(kPacking) == 8) {
      words.even[q] = vld1q_u8(quants + pair * 128 + q * 16);
      words.odd[q] = vld1q_u8(quants + pair * 128 + 64 + q * 16);
    } else {
      const uint8x16_t both = vld1q_u8(quants + pair * 64 + q * 16);
      words.even[q] = vandq_u8(both, vdupq_n_u8(15));
      words.odd[q] = vshrq_n_u8(both, 4);
    }
  }
  return words;
}

// The int8 of one word for up to four tokens, a token a lane. Of three tokens the last lane holds what comes
// after them in the panel (the next word, or scales).
template <uint32_t kTokens>
inline __attribute__((always_inline)) int8x16_t load_words(const uint8_t* words) {
  if constexpr (kTokens == 1) {
    return vreinterpretq_s8_s32(vdupq_n_s32(value_at<int32_t>(words, 0)));
  } else if constexpr (kTokens == 2) {
    return vreinterpretq_s8_s64(vdupq_n_s64(value_at<int64_t>(words, 0)));
  } else {
    return vld1q_s8(reinterpret_cast<const int8_t*>(words));
  }
}

// Scales of 4 rows from quarter-tile `quarter` on, f16 or f32; `index` counts scales of whole tiles.
template <Packing kPacking>
inline float32x4_t load_scales(const uint8_t* scales, uint32_t index, uint32_t quarter) {
  const uint32_t at = index * kTileRows + quarter * 4;
  if constexpr (is_working(kPacking)) {
    return vld1q_f32(reinterpret_cast<const float*>(scales) + at);
  } else {
    return load_four_f16(reinterpret_cast<const uint16_t*>(scales) + at);
  }
}

// Sums of kTokens tokens by kQuarters quarter-tiles from quarter `first` of one tile, over all groups, added
// to what they are.
template <Packing kPacking, uint32_t kTokens, uint32_t kQuarters, typename Dots>
inline __attribute__((always_inline)) void integer_quarters(const TileJob& job, uint32_t first,
                                                            float32x4_t (&sums)[kTokens][kQuarters]) {
  // Parts of a group that have scales of their own.
  constexpr uint32_t kParts = kPacking == Packing::kWideHalves ? 2 : 1;
  const uint8_t* words = job.panel;
  const uint32_t groups = job.cols / kGroup;
  for (uint32_t group = 0; group < groups; group++) {
    const uint8_t* quants = job.tile + group_quants_at(kPacking, group) + first * 16;
    const uint8_t* scales = job.tile + group_scales_at(kPacking, group);
    const uint8_t* activation_scales = words + kTokens * kGroup;
    const uint8_t* corrections = activation_scales + kTokens * sizeof(float);
#pragma GCC unroll 2
    for (uint32_t part = 0; part < kParts; part++) {
      int32x4_t dots[kTokens][kQuarters];
      Dots::template dot<kPacking, kWordsPerGroup / kParts>(
          dots, words + part * (kTokens * kGroup / kParts),
          quants + part * (group_quant_bytes(kPacking) / kParts),
          corrections + part * kTokens * sizeof(int32_t));
      float32x4_t d[kQuarters];
      float32x4_t bias[kQuarters];
#pragma GCC unroll 4
      for (uint32_t q = 0; q < kQuarters; q++) {
        d[q] = load_scales<kPacking>(scales, part, first + q);
        bias[q] = vmulq_n_f32(d[q], -kDotBias);
      }
#pragma GCC unroll 16
      for (uint32_t i = 0; i < kTokens; i++) {
        const float32x4_t scale = vdupq_n_f32(value_at<float>(activation_scales, i));
#pragma GCC unroll 4
        for (uint32_t q = 0; q < kQuarters; q++) {
          const float32x4_t product = vfmaq_f32(bias[q], vreinterpretq_f32_s32(dots[i][q]), d[q]);
          sums[i][q] = vfmaq_f32(sums[i][q], product, scale);
        }
      }
    }
    if constexpr (is_affine(kPacking)) {
      float32x4_t m[kQuarters];
#pragma GCC unroll 4
      for (uint32_t q = 0; q < kQuarters; q++) m[q] = load_scales<kPacking>(scales, 1, first + q);
#pragma GCC unroll 16
      for (uint32_t i = 0; i < kTokens; i++) {
        const float32x4_t correction = vdupq_n_f32(value_at<float>(corrections, i));
#pragma GCC unroll 4
        for (uint32_t q = 0; q < kQuarters; q++) sums[i][q] = vfmaq_f32(sums[i][q], m[q], correction);
      }
    }
    words += kTokens * activation_group_bytes(kPacking);
  }
}

template <Packing kPacking, uint32_t kTokens, typename Dots>
void integer_tile(const TileJob& job) {
  // Few tokens: the whole tile at once, so that it is streamed in order.
  if constexpr (kTokens <= Dots::kWholeTileTokens) {
    float32x4_t sums[kTokens][4];
    for (uint32_t i = 0; i < kTokens; i++) {
      const Lanes begun = first_sums(job, i);
      for (uint32_t q = 0; q < 4; q++) sums[i][q] = begun.q[q];
    }
    integer_quarters<kPacking, kTokens, 4, Dots>(job, 0, sums);
    for (uint32_t i = 0; i < kTokens; i++) {
      last_sums(job, i, {{sums[i][0], sums[i][1], sums[i][2], sums[i][3]}});
    }
  } else {
    float32x4_t low[kTokens][2];
    float32x4_t high[kTokens][2];
    for (uint32_t i = 0; i < kTokens; i++) {
      const Lanes begun = first_sums(job, i);
      for (uint32_t q = 0; q < 2; q++) {
        low[i][q] = begun.q[q];
        high[i][q] = begun.q[q + 2];
      }
    }
    integer_quarters<kPacking, kTokens, 2, Dots>(job, 0, low);
    integer_quarters<kPacking, kTokens, 2, Dots>(job, 2, high);
    for (uint32_t i = 0; i < kTokens; i++) {
      last_sums(job, i, {{low[i][0], low[i][1], high[i][0], high[i][1]}});
    }
  }
}

}  // namespace
}  // namespace streamserve
