// Lines of 64 bytes in one AVX-512 register. See lines_portable.h for what each operation means.
#pragma once

#include "lanes_avx512.h"

namespace streamserve {
namespace {

using Line = __m512i;

inline Line load_line(const uint8_t* from) { return _mm512_load_si512(from); }
inline void store_line(uint8_t* to, Line x) { _mm512_store_si512(to, x); }
template <int kBits>
inline Line shifted_right(Line x, uint8_t mask) {
  if constexpr (kBits < 0) x = _mm512_slli_epi16(x, -kBits);
  if constexpr (kBits > 0) x = _mm512_srli_epi16(x, kBits);
  return _mm512_and_si512(x, _mm512_set1_epi8(static_cast<char>(mask)));
}
inline Line either(Line a, Line b) { return _mm512_or_si512(a, b); }
inline Line plus(Line x, uint8_t more) {
  return _mm512_add_epi8(x, _mm512_set1_epi8(static_cast<char>(more)));
}
inline Line looked_up(const uint8_t* table, Line x) {
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(table))),
                             x);
}

inline Lanes load_u8(const uint8_t* from) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
}
inline Lanes load_i8(const uint8_t* from) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
}

}  // namespace
}  // namespace streamserve
