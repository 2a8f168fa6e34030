// Sixteen f32 lanes in one AVX-512 register. See lanes_portable.h for what each operation means.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace streamserve {
namespace {

inline constexpr uint32_t kLanes = 16;
inline constexpr bool kFewRegisters = false;

using Lanes = __m512;

inline __mmask16 first_lanes(uint32_t count) { return static_cast<__mmask16>((1U << count) - 1U); }

inline Lanes broadcast(float value) { return _mm512_set1_ps(value); }
inline Lanes zero() { return _mm512_setzero_ps(); }
inline Lanes load(const float* from) { return _mm512_loadu_ps(from); }
inline Lanes load_some(const float* from, uint32_t count) {
  return _mm512_maskz_loadu_ps(first_lanes(count), from);
}
inline void store(float* to, Lanes x) { _mm512_storeu_ps(to, x); }
inline void store_some(float* to, Lanes x, uint32_t count) {
  _mm512_mask_storeu_ps(to, first_lanes(count), x);
}
inline Lanes load_f16(const uint16_t* from) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}
struct Halves {
  __m256i bits;
};
inline Halves f16_of(Lanes x) { return {_mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
// By integers: vcvtneps2bf16 takes subnormal numbers for zero.
inline Halves bf16_of(Lanes x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i upper = _mm512_srli_epi32(bits, 16);
  const __m512i odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
  const __m512i rounded =
      _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd), 16);
  const __m512i quiet = _mm512_or_si512(upper, _mm512_set1_epi32(0x40));
  return {
      _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), quiet))};
}
inline void store_halves(uint16_t* to, Halves x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), x.bits);
}
inline Lanes load_int8(const int8_t* from) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
}
inline Lanes load_bf16(const uint16_t* from) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

inline Lanes add(Lanes a, Lanes b) { return _mm512_add_ps(a, b); }
inline Lanes subtract(Lanes a, Lanes b) { return _mm512_sub_ps(a, b); }
inline Lanes multiply(Lanes a, Lanes b) { return _mm512_mul_ps(a, b); }
inline Lanes divide(Lanes a, Lanes b) { return _mm512_div_ps(a, b); }
inline Lanes fused(Lanes a, Lanes b, Lanes c) { return _mm512_fmadd_ps(a, b, c); }
inline Lanes maximum(Lanes a, Lanes b) { return _mm512_max_ps(a, b); }
inline Lanes minimum(Lanes a, Lanes b) { return _mm512_min_ps(a, b); }
inline Lanes keep_first(Lanes x, uint32_t count, Lanes other) {
  return _mm512_mask_mov_ps(other, first_lanes(count), x);
}
inline Lanes add_exponent(Lanes x, Lanes shifted) {
  const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(shifted), 23);
  return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x), exponent));
}

inline Lanes swap_pairs(Lanes x) { return _mm512_permute_ps(x, 0xB1); }
inline Lanes negate_even(Lanes x) {
  const __m512i signs = _mm512_set1_epi64(0x80000000LL);
  return _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(x), signs));
}
inline Lanes load_twice(const float* from) {
  const __m512i pairs = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
  return _mm512_permutexvar_ps(pairs, _mm512_castps256_ps512(_mm256_loadu_ps(from)));
}

inline float sum(Lanes x) {
  const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1));
  const __m256 by8 = _mm256_add_ps(_mm512_castps512_ps256(x), high);
  const __m128 by4 = _mm_add_ps(_mm256_castps256_ps128(by8), _mm256_extractf128_ps(by8, 1));
  const __m128 by2 = _mm_add_ps(by4, _mm_movehl_ps(by4, by4));
  return _mm_cvtss_f32(_mm_add_ss(by2, _mm_movehdup_ps(by2)));
}
inline float largest(Lanes x) {
  const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1));
  const __m256 by8 = _mm256_max_ps(_mm512_castps512_ps256(x), high);
  const __m128 by4 = _mm_max_ps(_mm256_castps256_ps128(by8), _mm256_extractf128_ps(by8, 1));
  const __m128 by2 = _mm_max_ps(by4, _mm_movehl_ps(by4, by4));
  return _mm_cvtss_f32(_mm_max_ss(by2, _mm_movehdup_ps(by2)));
}

inline uint32_t largest_magnitude_bits(Lanes a, Lanes b) {
  const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
  const __m512i x = _mm512_and_si512(_mm512_castps_si512(a), magnitude);
  const __m512i y = _mm512_and_si512(_mm512_castps_si512(b), magnitude);
  return _mm512_reduce_max_epu32(_mm512_max_epu32(x, y));
}

inline void round_to_int8(Lanes x, int8_t* out) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x)));
}

inline Lanes larger_magnitude(Lanes a, Lanes b) {
  const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
  const __m512i x = _mm512_and_si512(_mm512_castps_si512(a), magnitude);
  const __m512i y = _mm512_and_si512(_mm512_castps_si512(b), magnitude);
  return _mm512_castsi512_ps(_mm512_max_epu32(x, y));
}
inline Lanes largest_of_each(const Lanes (&rows)[kLanes]) {
  __m512i fours[4];
#pragma GCC unroll 4
  for (uint32_t v = 0; v < 4; v++) {
    // Rows v, v + 4, v + 8 and v + 12, each folded into one quarter.
    const auto fold = [](Lanes r, Lanes s) {
      const __m512i a = _mm512_castps_si512(r);
      const __m512i b = _mm512_castps_si512(s);
      return _mm512_max_epu32(_mm512_shuffle_i32x4(a, b, 0x44), _mm512_shuffle_i32x4(a, b, 0xEE));
    };
    const __m512i x = fold(rows[v], rows[v + 4]);
    const __m512i y = fold(rows[v + 8], rows[v + 12]);
    fours[v] = _mm512_max_epu32(_mm512_shuffle_i32x4(x, y, 0x88), _mm512_shuffle_i32x4(x, y, 0xDD));
  }
  const auto pair = [](__m512i a, __m512i b) {
    return _mm512_max_epu32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  };
  const __m512i even = pair(fours[0], fours[1]);
  const __m512i odd = pair(fours[2], fours[3]);
  return _mm512_castsi512_ps(
      _mm512_max_epu32(_mm512_unpacklo_epi64(even, odd), _mm512_unpackhi_epi64(even, odd)));
}
inline bool all_within(Lanes x, float least, uint32_t limit) {
  const __m512i bits = _mm512_castps_si512(x);
  const __mmask16 enough = _mm512_cmpge_epu32_mask(bits, _mm512_castps_si512(broadcast(least)));
  return _mm512_mask_cmplt_epu32_mask(enough, bits, _mm512_set1_epi32(static_cast<int>(limit))) == 0xFFFF;
}

using Words = __m512i;

inline Words bits_of(Lanes x) { return _mm512_castps_si512(x); }
inline Lanes to_floats(Words x) { return _mm512_cvtepi32_ps(x); }
inline Words add_words(Words a, Words b) { return _mm512_add_epi32(a, b); }
inline Words minus_times(int32_t start, int32_t factor, Words x) {
  return _mm512_sub_epi32(_mm512_set1_epi32(start), _mm512_mullo_epi32(x, _mm512_set1_epi32(factor)));
}
inline Words sum_of_bytes(Words a, Words b, Words c, Words d) {
  const __m512i ones = _mm512_set1_epi8(1);
  const __m512i ab = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), ones, a), ones, b);
  return _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(ab, ones, c), ones, d);
}
inline void store_some_words(uint8_t* to, Words x, uint32_t count) {
  _mm512_mask_storeu_epi32(to, first_lanes(count), x);
}
template <uint32_t kCount>
inline void round_words(const float (&values)[kLanes][kCount], const float (&factors)[kLanes],
                        Words (&words)[8]) {
  static_assert(kCount == 2 * kLanes);
  __m512i pairs[kLanes / 2];
#pragma GCC unroll 8
  for (uint32_t p = 0; p < kLanes / 2; p++) {
    // Of one row: quarter i has words i and 4 + i.
    const auto narrow = [&](uint32_t row) {
      const Lanes factor = broadcast(factors[row]);
      return _mm512_packs_epi32(_mm512_cvtps_epi32(multiply(load(values[row]), factor)),
                                _mm512_cvtps_epi32(multiply(load(values[row] + kLanes), factor)));
    };
    pairs[p] = _mm512_packs_epi16(narrow(2 * p), narrow(2 * p + 1));
  }
  // Quarter i has word i, or 4 + i, of four rows.
  __m512i fours[2][4];
#pragma GCC unroll 4
  for (uint32_t q = 0; q < 4; q++) {
    const __m512i even = _mm512_unpacklo_epi32(pairs[2 * q], pairs[2 * q + 1]);
    const __m512i odd = _mm512_unpackhi_epi32(pairs[2 * q], pairs[2 * q + 1]);
    fours[0][q] = _mm512_unpacklo_epi32(even, odd);
    fours[1][q] = _mm512_unpackhi_epi32(even, odd);
  }
#pragma GCC unroll 2
  for (uint32_t h = 0; h < 2; h++) {
    const __m512i a = _mm512_shuffle_i32x4(fours[h][0], fours[h][1], 0x44);
    const __m512i b = _mm512_shuffle_i32x4(fours[h][0], fours[h][1], 0xEE);
    const __m512i c = _mm512_shuffle_i32x4(fours[h][2], fours[h][3], 0x44);
    const __m512i d = _mm512_shuffle_i32x4(fours[h][2], fours[h][3], 0xEE);
    words[4 * h] = _mm512_shuffle_i32x4(a, c, 0x88);
    words[4 * h + 1] = _mm512_shuffle_i32x4(a, c, 0xDD);
    words[4 * h + 2] = _mm512_shuffle_i32x4(b, d, 0x88);
    words[4 * h + 3] = _mm512_shuffle_i32x4(b, d, 0xDD);
  }
}

}  // namespace
}  // namespace streamserve

#include "columns_x86.h"
