// Sixteen f32 lanes in plain C++: the reference that the vector families must equal bit for bit.
//
// A lanes_*.h file defines, in an anonymous namespace so that no object file shares code with another, the
// type `Lanes` and the operations below on it. Every operation is one correctly rounded IEEE operation a
// lane.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "half.h"

namespace streamserve {
namespace {

inline constexpr uint32_t kLanes = 16;
// Whether six Lanes of sums leave so few registers that what they are made from can't be kept there.
inline constexpr bool kFewRegisters = false;

struct Lanes {
  float at[kLanes];
};

template <typename Function>
inline Lanes each_lane(Function function) {
  Lanes result;
  for (uint32_t i = 0; i < kLanes; i++) result.at[i] = function(i);
  return result;
}

inline Lanes broadcast(float value) {
  return each_lane([&](uint32_t) { return value; });
}
inline Lanes zero() { return broadcast(0.0F); }
inline Lanes load(const float* from) {
  return each_lane([&](uint32_t i) { return from[i]; });
}
// The first `count` (0..16) of `from`, zeros after them.
inline Lanes load_some(const float* from, uint32_t count) {
  return each_lane([&](uint32_t i) { return i < count ? from[i] : 0.0F; });
}
inline void store(float* to, const Lanes& x) { std::memcpy(to, x.at, sizeof(x.at)); }
inline void store_some(float* to, const Lanes& x, uint32_t count) {
  std::memcpy(to, x.at, count * sizeof(float));
}
inline Lanes load_f16(const uint16_t* from) {
  return each_lane([&](uint32_t i) { return f16_to_f32(from[i]); });
}
// Sixteen 16-bit floats, rounded to nearest even.
struct Halves {
  uint16_t at[kLanes];
};
inline Halves f16_of(const Lanes& x) {
  Halves result;
  for (uint32_t i = 0; i < kLanes; i++) result.at[i] = f32_to_f16(x.at[i]);
  return result;
}
inline Halves bf16_of(const Lanes& x) {
  Halves result;
  for (uint32_t i = 0; i < kLanes; i++) result.at[i] = f32_to_bf16(x.at[i]);
  return result;
}
inline void store_halves(uint16_t* to, const Halves& x) { std::memcpy(to, x.at, sizeof(x.at)); }
inline Lanes load_int8(const int8_t* from) {
  return each_lane([&](uint32_t i) { return static_cast<float>(from[i]); });
}
inline Lanes load_bf16(const uint16_t* from) {
  return each_lane([&](uint32_t i) { return bf16_to_f32(from[i]); });
}

inline Lanes add(const Lanes& a, const Lanes& b) {
  return each_lane([&](uint32_t i) { return a.at[i] + b.at[i]; });
}
inline Lanes subtract(const Lanes& a, const Lanes& b) {
  return each_lane([&](uint32_t i) { return a.at[i] - b.at[i]; });
}
inline Lanes multiply(const Lanes& a, const Lanes& b) {
  return each_lane([&](uint32_t i) { return a.at[i] * b.at[i]; });
}
inline Lanes divide(const Lanes& a, const Lanes& b) {
  return each_lane([&](uint32_t i) { return a.at[i] / b.at[i]; });
}
// a * b + c, rounded once.
inline Lanes fused(const Lanes& a, const Lanes& b, const Lanes& c) {
  return each_lane([&](uint32_t i) { return __builtin_fmaf(a.at[i], b.at[i], c.at[i]); });
}
// a > b ? a : b; so b where either is NaN.
inline Lanes maximum(const Lanes& a, const Lanes& b) {
  return each_lane([&](uint32_t i) { return a.at[i] > b.at[i] ? a.at[i] : b.at[i]; });
}
inline Lanes minimum(const Lanes& a, const Lanes& b) {
  return each_lane([&](uint32_t i) { return a.at[i] < b.at[i] ? a.at[i] : b.at[i]; });
}
// x in the first `count` lanes, `other` in the rest.
inline Lanes keep_first(const Lanes& x, uint32_t count, const Lanes& other) {
  return each_lane([&](uint32_t i) { return i < count ? x.at[i] : other.at[i]; });
}
// x * 2^n, where the low bits of `shifted` (as integers) hold n and the product is normal.
inline Lanes add_exponent(const Lanes& x, const Lanes& shifted) {
  return each_lane([&](uint32_t i) {
    return __builtin_bit_cast(
        float, __builtin_bit_cast(uint32_t, x.at[i]) + (__builtin_bit_cast(uint32_t, shifted.at[i]) << 23));
  });
}

// Pairs (2i, 2i+1): exchanged; with the even lane negated; eight values, each twice.
inline Lanes swap_pairs(const Lanes& x) {
  return each_lane([&](uint32_t i) { return x.at[i ^ 1U]; });
}
inline Lanes negate_even(const Lanes& x) {
  return each_lane([&](uint32_t i) { return i % 2 ? x.at[i] : -x.at[i]; });
}
inline Lanes load_twice(const float* from) {
  return each_lane([&](uint32_t i) { return from[i / 2]; });
}

// Folds halves: lanes (i, i+8), then (i, i+4), (i, i+2), (0, 1).
inline float sum(const Lanes& x) {
  Lanes folded = x;
  for (uint32_t half = kLanes / 2; half > 0; half /= 2) {
    for (uint32_t i = 0; i < half; i++) folded.at[i] += folded.at[i + half];
  }
  return folded.at[0];
}
inline float largest(const Lanes& x) {
  Lanes folded = x;
  for (uint32_t half = kLanes / 2; half > 0; half /= 2) {
    for (uint32_t i = 0; i < half; i++) {
      folded.at[i] = folded.at[i] > folded.at[i + half] ? folded.at[i] : folded.at[i + half];
    }
  }
  return folded.at[0];
}

// The largest magnitude of 32 values as the bits of an f32; NaN counts as the largest.
inline uint32_t largest_magnitude_bits(const Lanes& a, const Lanes& b) {
  uint32_t most = 0;
  for (uint32_t i = 0; i < kLanes; i++) {
    const uint32_t x = __builtin_bit_cast(uint32_t, a.at[i]) & 0x7FFFFFFFU;
    const uint32_t y = __builtin_bit_cast(uint32_t, b.at[i]) & 0x7FFFFFFFU;
    most = x > most ? x : most;
    most = y > most ? y : most;
  }
  return most;
}

// Rounds (to nearest even) to int8, values being in -127..127.
inline int8_t round_one_to_int8(float x) {
  // Adding 1.5 * 2^23 rounds to an integer.
  return static_cast<int8_t>((x + 12582912.0F) - 12582912.0F);
}
inline void round_to_int8(const Lanes& x, int8_t* out) {
  for (uint32_t i = 0; i < kLanes; i++) out[i] = round_one_to_int8(x.at[i]);
}

// Lane by lane the larger magnitude, as the bits of an f32; NaN counts as the largest.
inline Lanes larger_magnitude(const Lanes& a, const Lanes& b) {
  return each_lane([&](uint32_t i) {
    const uint32_t x = __builtin_bit_cast(uint32_t, a.at[i]) & 0x7FFFFFFFU;
    const uint32_t y = __builtin_bit_cast(uint32_t, b.at[i]) & 0x7FFFFFFFU;
    return __builtin_bit_cast(float, x > y ? x : y);
  });
}
// In lane r the largest of row r, all being magnitudes as larger_magnitude() gives them.
inline Lanes largest_of_each(const Lanes (&rows)[kLanes]) {
  return each_lane(
      [&](uint32_t r) { return __builtin_bit_cast(float, largest_magnitude_bits(rows[r], rows[r])); });
}
// Whether all lanes, which are magnitudes, have bits from those of `least` on and below `limit`.
inline bool all_within(const Lanes& x, float least, uint32_t limit) {
  bool all = true;
  for (const float lane : x.at) {
    const uint32_t bits = __builtin_bit_cast(uint32_t, lane);
    all = all && bits >= __builtin_bit_cast(uint32_t, least) && bits < limit;
  }
  return all;
}

// Sixteen lanes of 32 bits: whole numbers, or four int8 each.
struct Words {
  int32_t at[kLanes];
};

template <typename Function>
inline Words each_word(Function function) {
  Words result;
  for (uint32_t i = 0; i < kLanes; i++) result.at[i] = function(i);
  return result;
}

inline Words bits_of(const Lanes& x) {
  return each_word([&](uint32_t i) { return __builtin_bit_cast(int32_t, x.at[i]); });
}
inline Lanes to_floats(const Words& x) {
  return each_lane([&](uint32_t i) { return static_cast<float>(x.at[i]); });
}
inline Words add_words(const Words& a, const Words& b) {
  return each_word([&](uint32_t i) { return a.at[i] + b.at[i]; });
}
// start - factor * x
inline Words minus_times(int32_t start, int32_t factor, const Words& x) {
  return each_word([&](uint32_t i) { return start - factor * x.at[i]; });
}
// The sum of the four int8 of each lane of all four.
inline Words sum_of_bytes(const Words& a, const Words& b, const Words& c, const Words& d) {
  return each_word([&](uint32_t i) {
    const Words* const all[] = {&a, &b, &c, &d};
    int32_t total = 0;
    for (const Words* words : all) {
      int8_t bytes[4];
      std::memcpy(bytes, &words->at[i], sizeof(bytes));
      for (const int8_t byte : bytes) total += byte;
    }
    return total;
  });
}
inline void store_some_words(uint8_t* to, const Words& x, uint32_t count) {
  std::memcpy(to, x.at, count * sizeof(int32_t));
}
// Rounds each value times the factor of its row, as round_to_int8 does: lane r of words[w] gets values 4w to
// 4w + 3 of row r.
template <uint32_t kCount>
inline void round_words(const float (&values)[kLanes][kCount], const float (&factors)[kLanes],
                        Words (&words)[8]) {
  static_assert(kCount == 2 * kLanes);
  for (uint32_t w = 0; w < 8; w++) {
    words[w] = each_word([&](uint32_t r) {
      int8_t bytes[4];
      for (uint32_t i = 0; i < 4; i++) bytes[i] = round_one_to_int8(values[r][4 * w + i] * factors[r]);
      int32_t word;
      std::memcpy(&word, bytes, sizeof(word));
      return word;
    });
  }
}

// Rows that are stored as columns at a time.
inline constexpr uint32_t kColumnRows = 8;

// Element c of row r goes to to[c * stride + r].
inline void store_half_columns(uint16_t* to, size_t stride, const Halves (&rows)[kColumnRows]) {
  for (uint32_t c = 0; c < kLanes; c++) {
    for (uint32_t r = 0; r < kColumnRows; r++) to[c * stride + r] = rows[r].at[c];
  }
}
// Byte c (of kLanes) of row r, which begins at rows + r * row_stride, goes to to[c * stride + r].
inline void store_int8_columns(int8_t* to, size_t stride, const int8_t* rows, size_t row_stride) {
  for (uint32_t c = 0; c < kLanes; c++) {
    for (uint32_t r = 0; r < kColumnRows; r++) to[c * stride + r] = rows[r * row_stride + c];
  }
}

}  // namespace
}  // namespace streamserve
