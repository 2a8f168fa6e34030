// Micro-kernels of the quantised packings for 256-bit registers. Include after lines_avx2.h and matmul.h.
//
// A register holds half a line: 8 rows by 4 k. `Dots` makes the integer dots of one group for kTokens tokens
// by kHalves half-tiles; it is all that differs with and without VNNI. Both halves of a tile are computed
// together, so that a word of activations is loaded once for two dots. Sums live in memory (first-level
// cache): the registers are the dots'.
#pragma once

#include "matmul.h"

namespace streamserve {
namespace {

inline __m256i eight_of_word(const uint8_t* words, uint32_t index) {
  int32_t word;
  std::memcpy(&word, words + index * sizeof(word), sizeof(word));
  return _mm256_set1_epi32(word);
}

inline __m256 eight_of_float(const uint8_t* floats, uint32_t index) {
  float value;
  std::memcpy(&value, floats + index * sizeof(value), sizeof(value));
  return _mm256_set1_ps(value);
}

inline __m256i load_half_line(const uint8_t* at) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(at));
}

// Scales of 8 rows from half-tile `half` on, f16 or f32; `index` counts scales of whole tiles.
template <Packing kPacking>
inline __m256 load_scales(const uint8_t* scales, uint32_t index, uint32_t half) {
  const uint32_t at = index * kTileRows + half * 8;
  if constexpr (is_working(kPacking)) {
    return _mm256_load_ps(reinterpret_cast<const float*>(scales) + at);
  } else {
    return load_eight_f16(reinterpret_cast<const uint16_t*>(scales) + at);
  }
}

// Half-tiles of a tile.
inline constexpr uint32_t kHalves = 2;

template <Packing kPacking, uint32_t kTokens, typename Dots>
void integer_tile(const TileJob& job) {
  constexpr bool kAffine = is_affine(kPacking);
  // Parts of a group that have scales of their own.
  constexpr uint32_t kParts = kPacking == Packing::kWideHalves ? 2 : 1;
  __m256 sums[kTokens][kHalves];
  for (uint32_t i = 0; i < kTokens; i++) {
    const Lanes first = first_sums(job, i);
    sums[i][0] = first.low;
    sums[i][1] = first.high;
  }
  const uint8_t* words = job.panel;
  const uint32_t groups = job.cols / kGroup;
  for (uint32_t group = 0; group < groups; group++) {
    const uint8_t* quants = job.tile + group_quants_at(kPacking, group);
    const uint8_t* scales = job.tile + group_scales_at(kPacking, group);
    constexpr size_t kGroupBytes = unit_bytes(kPacking) / unit_groups(kPacking);
    read_ahead<kGroupBytes>(job, group * kGroupBytes);
    const uint8_t* activation_scales = words + kTokens * kGroup;
    const uint8_t* corrections = activation_scales + kTokens * sizeof(float);
#pragma GCC unroll 2
    for (uint32_t part = 0; part < kParts; part++) {
      __m256i dots[kTokens][kHalves];
      Dots::template dot<kPacking, kWordsPerGroup / kParts>(
          dots, words + part * (kTokens * kGroup / kParts),
          quants + part * (group_quant_bytes(kPacking) / kParts));
#pragma GCC unroll 2
      for (uint32_t h = 0; h < kHalves; h++) {
        const __m256 d = load_scales<kPacking>(scales, part, h);
        const __m256 bias = _mm256_mul_ps(d, _mm256_set1_ps(-kDotBias));
#pragma GCC unroll 16
        for (uint32_t i = 0; i < kTokens; i++) {
          __m256i dot = dots[i][h];
          if constexpr (!Dots::starts_biased(kPacking)) {
            dot = _mm256_add_epi32(dot, Dots::lacks_zero_point(kPacking)
                                            ? eight_of_word(corrections, part * kTokens + i)
                                            : _mm256_set1_epi32(kDotStart));
          }
          const __m256 product = _mm256_fmadd_ps(_mm256_castsi256_ps(dot), d, bias);
          sums[i][h] = _mm256_fmadd_ps(product, eight_of_float(activation_scales, i), sums[i][h]);
          if constexpr (kAffine) {
            const __m256 m = load_scales<kPacking>(scales, 1, h);
            sums[i][h] = _mm256_fmadd_ps(m, eight_of_float(corrections, i), sums[i][h]);
          }
        }
      }
    }
    words += kTokens * activation_group_bytes(kPacking);
  }
  for (uint32_t i = 0; i < kTokens; i++) last_sums(job, i, {sums[i][0], sums[i][1]});
}

}  // namespace
}  // namespace streamserve
