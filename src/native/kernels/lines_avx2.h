// Lines of 64 bytes in two AVX registers. See lines_portable.h for what each operation means.
#pragma once

#include "lanes_avx2.h"

namespace streamserve {
namespace {

struct Line {
  __m256i low;
  __m256i high;
};

inline Line load_line(const uint8_t* from) {
  const auto* at = reinterpret_cast<const __m256i*>(from);
  return {_mm256_load_si256(at), _mm256_load_si256(at + 1)};
}
inline void store_line(uint8_t* to, Line x) {
  auto* at = reinterpret_cast<__m256i*>(to);
  _mm256_store_si256(at, x.low);
  _mm256_store_si256(at + 1, x.high);
}
template <int kBits>
inline __m256i half_shifted_right(__m256i x, uint8_t mask) {
  if constexpr (kBits < 0) x = _mm256_slli_epi16(x, -kBits);
  if constexpr (kBits > 0) x = _mm256_srli_epi16(x, kBits);
  return _mm256_and_si256(x, _mm256_set1_epi8(static_cast<char>(mask)));
}
template <int kBits>
inline Line shifted_right(Line x, uint8_t mask) {
  return {half_shifted_right<kBits>(x.low, mask), half_shifted_right<kBits>(x.high, mask)};
}
inline Line either(Line a, Line b) {
  return {_mm256_or_si256(a.low, b.low), _mm256_or_si256(a.high, b.high)};
}
inline Line plus(Line x, uint8_t more) {
  const __m256i all = _mm256_set1_epi8(static_cast<char>(more));
  return {_mm256_add_epi8(x.low, all), _mm256_add_epi8(x.high, all)};
}
inline Line looked_up(const uint8_t* table, Line x) {
  const __m256i both = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(table)));
  return {_mm256_shuffle_epi8(both, x.low), _mm256_shuffle_epi8(both, x.high)};
}

inline __m128i load_eight_bytes(const uint8_t* from) {
  return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
}
inline Lanes load_u8(const uint8_t* from) {
  return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(load_eight_bytes(from))),
          _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(load_eight_bytes(from + 8)))};
}
inline Lanes load_i8(const uint8_t* from) {
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(load_eight_bytes(from))),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(load_eight_bytes(from + 8)))};
}

}  // namespace
}  // namespace streamserve
