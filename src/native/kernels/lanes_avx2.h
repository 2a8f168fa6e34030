// Sixteen f32 lanes in two AVX registers, with FMA and F16C. See lanes_portable.h for what each operation
// means.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace streamserve {
namespace {

inline constexpr uint32_t kLanes = 16;

struct Lanes {
  __m256 low;
  __m256 high;
};

// All ones in the first `count` of eight lanes; count may be anything.
inline __m256i first_of_eight(int32_t count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

inline Lanes broadcast(float value) {
  const __m256 all = _mm256_set1_ps(value);
  return {all, all};
}
inline Lanes zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline Lanes load(const float* from) { return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)}; }
inline Lanes load_some(const float* from, uint32_t count) {
  const auto n = static_cast<int32_t>(count);
  return {_mm256_maskload_ps(from, first_of_eight(n)), _mm256_maskload_ps(from + 8, first_of_eight(n - 8))};
}
inline void store(float* to, Lanes x) {
  _mm256_storeu_ps(to, x.low);
  _mm256_storeu_ps(to + 8, x.high);
}
inline void store_some(float* to, Lanes x, uint32_t count) {
  const auto n = static_cast<int32_t>(count);
  _mm256_maskstore_ps(to, first_of_eight(n), x.low);
  _mm256_maskstore_ps(to + 8, first_of_eight(n - 8), x.high);
}
inline __m256 load_eight_f16(const uint16_t* from) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
inline Lanes load_f16(const uint16_t* from) { return {load_eight_f16(from), load_eight_f16(from + 8)}; }
inline __m256i halves_of(Lanes x) {
  return _mm256_set_m128i(_mm256_cvtps_ph(x.high, _MM_FROUND_TO_NEAREST_INT),
                          _mm256_cvtps_ph(x.low, _MM_FROUND_TO_NEAREST_INT));
}
inline void store_f16(uint16_t* to, Lanes x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(x.low, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 8), _mm256_cvtps_ph(x.high, _MM_FROUND_TO_NEAREST_INT));
}
inline __m256 load_eight_int8(const int8_t* from) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
}
inline Lanes load_int8(const int8_t* from) { return {load_eight_int8(from), load_eight_int8(from + 8)}; }
inline __m256 load_eight_bf16(const uint16_t* from) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
inline Lanes load_bf16(const uint16_t* from) { return {load_eight_bf16(from), load_eight_bf16(from + 8)}; }

inline Lanes add(Lanes a, Lanes b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
inline Lanes subtract(Lanes a, Lanes b) {
  return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}
inline Lanes multiply(Lanes a, Lanes b) {
  return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
inline Lanes divide(Lanes a, Lanes b) { return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)}; }
inline Lanes fused(Lanes a, Lanes b, Lanes c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
inline Lanes maximum(Lanes a, Lanes b) {
  return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}
inline Lanes minimum(Lanes a, Lanes b) {
  return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)};
}
inline Lanes keep_first(Lanes x, uint32_t count, Lanes other) {
  const auto n = static_cast<int32_t>(count);
  return {_mm256_blendv_ps(other.low, x.low, _mm256_castsi256_ps(first_of_eight(n))),
          _mm256_blendv_ps(other.high, x.high, _mm256_castsi256_ps(first_of_eight(n - 8)))};
}
inline __m256 add_eight_exponents(__m256 x, __m256 shifted) {
  const __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), exponent));
}
inline Lanes add_exponent(Lanes x, Lanes shifted) {
  return {add_eight_exponents(x.low, shifted.low), add_eight_exponents(x.high, shifted.high)};
}

inline Lanes swap_pairs(Lanes x) { return {_mm256_permute_ps(x.low, 0xB1), _mm256_permute_ps(x.high, 0xB1)}; }
inline Lanes negate_even(Lanes x) {
  const __m256 signs = _mm256_castsi256_ps(_mm256_set1_epi64x(0x80000000LL));
  return {_mm256_xor_ps(x.low, signs), _mm256_xor_ps(x.high, signs)};
}
inline Lanes load_twice(const float* from) {
  const __m128 low = _mm_loadu_ps(from);
  const __m128 high = _mm_loadu_ps(from + 4);
  return {_mm256_set_m128(_mm_unpackhi_ps(low, low), _mm_unpacklo_ps(low, low)),
          _mm256_set_m128(_mm_unpackhi_ps(high, high), _mm_unpacklo_ps(high, high))};
}

inline float sum(Lanes x) {
  const __m256 by8 = _mm256_add_ps(x.low, x.high);
  const __m128 by4 = _mm_add_ps(_mm256_castps256_ps128(by8), _mm256_extractf128_ps(by8, 1));
  const __m128 by2 = _mm_add_ps(by4, _mm_movehl_ps(by4, by4));
  return _mm_cvtss_f32(_mm_add_ss(by2, _mm_movehdup_ps(by2)));
}
inline float largest(Lanes x) {
  const __m256 by8 = _mm256_max_ps(x.low, x.high);
  const __m128 by4 = _mm_max_ps(_mm256_castps256_ps128(by8), _mm256_extractf128_ps(by8, 1));
  const __m128 by2 = _mm_max_ps(by4, _mm_movehl_ps(by4, by4));
  return _mm_cvtss_f32(_mm_max_ss(by2, _mm_movehdup_ps(by2)));
}

inline uint32_t largest_magnitude_bits(Lanes a, Lanes b) {
  const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF);
  const auto bits = [&](__m256 x) { return _mm256_and_si256(_mm256_castps_si256(x), magnitude); };
  const __m256i by8 = _mm256_max_epu32(_mm256_max_epu32(bits(a.low), bits(a.high)),
                                       _mm256_max_epu32(bits(b.low), bits(b.high)));
  const __m128i by4 = _mm_max_epu32(_mm256_castsi256_si128(by8), _mm256_extracti128_si256(by8, 1));
  const __m128i by2 = _mm_max_epu32(by4, _mm_shuffle_epi32(by4, 0x4E));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_max_epu32(by2, _mm_shuffle_epi32(by2, 0xB1))));
}

inline int32_t round_to_int8(Lanes x, int8_t* out) {
  const __m256i low = _mm256_cvtps_epi32(x.low);
  const __m256i high = _mm256_cvtps_epi32(x.high);
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), bytes);
  const __m256i by8 = _mm256_add_epi32(low, high);
  const __m128i by4 = _mm_add_epi32(_mm256_castsi256_si128(by8), _mm256_extracti128_si256(by8, 1));
  const __m128i by2 = _mm_add_epi32(by4, _mm_shuffle_epi32(by4, 0x4E));
  return _mm_cvtsi128_si32(_mm_add_epi32(by2, _mm_shuffle_epi32(by2, 0xB1)));
}

}  // namespace
}  // namespace streamserve

#include "columns_x86.h"
