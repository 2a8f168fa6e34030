// Eight rows of sixteen stored as columns, with AVX2. See lanes_portable.h for what each operation means.
// Include after the Halves of a lanes_*.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace streamserve {
namespace {

inline constexpr uint32_t kColumnRows = 8;

inline void store_half_columns(uint16_t* to, size_t stride, const Halves (&rows)[kColumnRows]) {
  __m256i by1[kColumnRows];
#pragma GCC unroll 8
  for (uint32_t r = 0; r < kColumnRows; r++) by1[r] = rows[r].bits;
  // Unpacking rows a half apart three times sorts each half of eight columns: (0, 1), (2, 3)...
  __m256i by2[kColumnRows];
  __m256i by4[kColumnRows];
  __m256i by8[kColumnRows];
  const auto unpack = [](const __m256i(&from)[kColumnRows], __m256i(&into)[kColumnRows]) {
#pragma GCC unroll 4
    for (uint32_t r = 0; r < kColumnRows / 2; r++) {
      into[2 * r] = _mm256_unpacklo_epi16(from[r], from[r + kColumnRows / 2]);
      into[2 * r + 1] = _mm256_unpackhi_epi16(from[r], from[r + kColumnRows / 2]);
    }
  };
  unpack(by1, by2);
  unpack(by2, by4);
  unpack(by4, by8);
#pragma GCC unroll 8
  for (uint32_t c = 0; c < kLanes / 2; c++) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + c * stride), _mm256_castsi256_si128(by8[c]));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + (c + kLanes / 2) * stride),
                     _mm256_extracti128_si256(by8[c], 1));
  }
}

inline void store_int8_columns(int8_t* to, size_t stride, const int8_t* rows, size_t row_stride) {
  __m128i by1[kColumnRows];
#pragma GCC unroll 8
  for (uint32_t r = 0; r < kColumnRows; r++) {
    by1[r] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows + r * row_stride));
  }
  __m128i by2[kColumnRows];
  __m128i by4[kColumnRows];
  __m128i by8[kColumnRows];
  const auto unpack = [](const __m128i(&from)[kColumnRows], __m128i(&into)[kColumnRows]) {
#pragma GCC unroll 4
    for (uint32_t r = 0; r < kColumnRows / 2; r++) {
      into[2 * r] = _mm_unpacklo_epi8(from[r], from[r + kColumnRows / 2]);
      into[2 * r + 1] = _mm_unpackhi_epi8(from[r], from[r + kColumnRows / 2]);
    }
  };
  unpack(by1, by2);
  unpack(by2, by4);
  unpack(by4, by8);
#pragma GCC unroll 8
  for (uint32_t c = 0; c < kLanes / 2; c++) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to + 2 * c * stride), by8[c]);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to + (2 * c + 1) * stride),
                     _mm_unpackhi_epi64(by8[c], by8[c]));
  }
}

}  // namespace
}  // namespace streamserve
