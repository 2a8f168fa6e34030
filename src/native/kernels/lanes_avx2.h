// Sixteen f32 lanes in two AVX registers, with FMA and F16C. See lanes_portable.h for what each operation
// means.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace streamserve {
namespace {

inline constexpr uint32_t kLanes = 16;
inline constexpr bool kFewRegisters = true;

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
struct Halves {
  __m256i bits;
};
inline Halves f16_of(Lanes x) {
  return {_mm256_set_m128i(_mm256_cvtps_ph(x.high, _MM_FROUND_TO_NEAREST_INT),
                           _mm256_cvtps_ph(x.low, _MM_FROUND_TO_NEAREST_INT))};
}
// In the lower half of each lane's 32 bits.
inline __m256i eight_bf16_of(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i upper = _mm256_srli_epi32(bits, 16);
  const __m256i odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
  const __m256i rounded =
      _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd), 16);
  const __m256i quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
  return _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
}
inline Halves bf16_of(Lanes x) {
  // Packing takes the registers' halves by turns.
  constexpr int kInOrder = 0xD8;
  const __m256i packed = _mm256_packus_epi32(eight_bf16_of(x.low), eight_bf16_of(x.high));
  return {_mm256_permute4x64_epi64(packed, kInOrder)};
}
inline void store_halves(uint16_t* to, Halves x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), x.bits);
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

inline void round_to_int8(Lanes x, int8_t* out) {
  const __m256i low = _mm256_cvtps_epi32(x.low);
  const __m256i high = _mm256_cvtps_epi32(x.high);
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), bytes);
}

inline Lanes larger_magnitude(Lanes a, Lanes b) {
  const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF);
  const auto larger = [&](__m256 x, __m256 y) {
    return _mm256_castsi256_ps(_mm256_max_epu32(_mm256_and_si256(_mm256_castps_si256(x), magnitude),
                                                _mm256_and_si256(_mm256_castps_si256(y), magnitude)));
  };
  return {larger(a.low, b.low), larger(a.high, b.high)};
}
// The largest of each of eight rows.
inline __m256 largest_of_eight(const Lanes* rows) {
  __m256i fours[4];
#pragma GCC unroll 4
  for (uint32_t v = 0; v < 4; v++) {
    const auto fold = [](const Lanes& row) {
      return _mm256_max_epu32(_mm256_castps_si256(row.low), _mm256_castps_si256(row.high));
    };
    // Rows v and v + 4, each folded into one half.
    const __m256i x = fold(rows[v]);
    const __m256i y = fold(rows[v + 4]);
    fours[v] = _mm256_max_epu32(_mm256_permute2x128_si256(x, y, 0x20), _mm256_permute2x128_si256(x, y, 0x31));
  }
  const auto pair = [](__m256i a, __m256i b) {
    return _mm256_max_epu32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
  };
  const __m256i even = pair(fours[0], fours[1]);
  const __m256i odd = pair(fours[2], fours[3]);
  return _mm256_castsi256_ps(
      _mm256_max_epu32(_mm256_unpacklo_epi64(even, odd), _mm256_unpackhi_epi64(even, odd)));
}
inline Lanes largest_of_each(const Lanes (&rows)[kLanes]) {
  return {largest_of_eight(rows), largest_of_eight(rows + 8)};
}
inline bool all_within(Lanes x, float least, uint32_t limit) {
  // Magnitudes: as signed integers they are in order too.
  const __m256i below = _mm256_castps_si256(_mm256_set1_ps(least));
  const __m256i above = _mm256_set1_epi32(static_cast<int>(limit));
  const auto outside = [&](__m256 half) {
    const __m256i bits = _mm256_castps_si256(half);
    return _mm256_or_si256(_mm256_cmpgt_epi32(below, bits),
                           _mm256_xor_si256(_mm256_cmpgt_epi32(above, bits), _mm256_set1_epi32(-1)));
  };
  const __m256i any = _mm256_or_si256(outside(x.low), outside(x.high));
  return _mm256_testz_si256(any, any) != 0;
}

struct Words {
  __m256i low;
  __m256i high;
};

inline Words bits_of(Lanes x) { return {_mm256_castps_si256(x.low), _mm256_castps_si256(x.high)}; }
inline Lanes to_floats(Words x) { return {_mm256_cvtepi32_ps(x.low), _mm256_cvtepi32_ps(x.high)}; }
inline Words add_words(Words a, Words b) {
  return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
}
inline Words minus_times(int32_t start, int32_t factor, Words x) {
  const auto of = [&](__m256i half) {
    return _mm256_sub_epi32(_mm256_set1_epi32(start), _mm256_mullo_epi32(half, _mm256_set1_epi32(factor)));
  };
  return {of(x.low), of(x.high)};
}
inline Words sum_of_bytes(Words a, Words b, Words c, Words d) {
  const __m256i one_bytes = _mm256_set1_epi8(1);
  const __m256i ones = _mm256_set1_epi16(1);
  const auto of = [&](__m256i p, __m256i q, __m256i r, __m256i s) {
    const __m256i pq =
        _mm256_add_epi16(_mm256_maddubs_epi16(one_bytes, p), _mm256_maddubs_epi16(one_bytes, q));
    const __m256i rs =
        _mm256_add_epi16(_mm256_maddubs_epi16(one_bytes, r), _mm256_maddubs_epi16(one_bytes, s));
    return _mm256_madd_epi16(_mm256_add_epi16(pq, rs), ones);
  };
  return {of(a.low, b.low, c.low, d.low), of(a.high, b.high, c.high, d.high)};
}
// By pieces: masked stores take many times as long on AMD's processors.
inline void store_some_of_eight(uint8_t* to, __m256i x, uint32_t count) {
  if (count >= 8) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), x);
    return;
  }
  __m128i left = _mm256_castsi256_si128(x);
  if (count & 4U) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), left);
    left = _mm256_extracti128_si256(x, 1);
    to += 16;
  }
  if (count & 2U) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), left);
    left = _mm_unpackhi_epi64(left, left);
    to += 8;
  }
  if (count & 1U) {
    const int32_t last = _mm_cvtsi128_si32(left);
    std::memcpy(to, &last, sizeof(last));
  }
}
inline void store_some_words(uint8_t* to, Words x, uint32_t count) {
  store_some_of_eight(to, x.low, count);
  if (count > 8) store_some_of_eight(to + 32, x.high, count - 8);
}
template <uint32_t kCount>
inline void round_words(const float (&values)[kLanes][kCount], const float (&factors)[kLanes],
                        Words (&words)[8]) {
  static_assert(kCount == 2 * kLanes);
  // Half i has words 2w + i of four rows.
  __m256i fours[4][4];
#pragma GCC unroll 4
  for (uint32_t q = 0; q < 4; q++) {
    __m256i rows[4];
#pragma GCC unroll 4
    for (uint32_t r = 0; r < 4; r++) {
      const float* row = values[4 * q + r];
      const __m256 factor = _mm256_set1_ps(factors[4 * q + r]);
      const auto eight = [&](uint32_t at) {
        return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(row + at), factor));
      };
      rows[r] = _mm256_packs_epi16(_mm256_packs_epi32(eight(0), eight(8)),
                                   _mm256_packs_epi32(eight(16), eight(24)));
    }
    const __m256i low01 = _mm256_unpacklo_epi32(rows[0], rows[1]);
    const __m256i low23 = _mm256_unpacklo_epi32(rows[2], rows[3]);
    const __m256i high01 = _mm256_unpackhi_epi32(rows[0], rows[1]);
    const __m256i high23 = _mm256_unpackhi_epi32(rows[2], rows[3]);
    fours[0][q] = _mm256_unpacklo_epi64(low01, low23);
    fours[1][q] = _mm256_unpackhi_epi64(low01, low23);
    fours[2][q] = _mm256_unpacklo_epi64(high01, high23);
    fours[3][q] = _mm256_unpackhi_epi64(high01, high23);
  }
#pragma GCC unroll 4
  for (uint32_t w = 0; w < 4; w++) {
    const auto& f = fours[w];
    words[2 * w] = {_mm256_permute2x128_si256(f[0], f[1], 0x20), _mm256_permute2x128_si256(f[2], f[3], 0x20)};
    words[2 * w + 1] = {_mm256_permute2x128_si256(f[0], f[1], 0x31),
                        _mm256_permute2x128_si256(f[2], f[3], 0x31)};
  }
}

}  // namespace
}  // namespace streamserve

#include "columns_x86.h"
