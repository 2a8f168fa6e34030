// Sixteen f32 lanes in four NEON registers. See lanes_portable.h for what each operation means.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace streamserve {
namespace {

inline constexpr uint32_t kLanes = 16;
inline constexpr bool kFewRegisters = true;

struct Lanes {
  float32x4_t q[4];
};

// Four registers, each by `function(its number)`.
template <typename Function>
inline __attribute__((always_inline)) Lanes each_four(Function function) {
  return {{function(0), function(1), function(2), function(3)}};
}

inline Lanes broadcast(float value) {
  const float32x4_t all = vdupq_n_f32(value);
  return {{all, all, all, all}};
}
inline Lanes zero() { return broadcast(0.0F); }
inline Lanes load(const float* from) {
  return each_four([&](int i) { return vld1q_f32(from + 4 * i); });
}
inline void store(float* to, const Lanes& x) {
  vst1q_f32(to, x.q[0]);
  vst1q_f32(to + 4, x.q[1]);
  vst1q_f32(to + 8, x.q[2]);
  vst1q_f32(to + 12, x.q[3]);
}
// There are no masked loads and stores: a few lanes go through memory.
inline Lanes load_some(const float* from, uint32_t count) {
  alignas(16) float values[kLanes] = {};
  std::memcpy(values, from, count * sizeof(float));
  return load(values);
}
inline void store_some(float* to, const Lanes& x, uint32_t count) {
  alignas(16) float values[kLanes];
  store(values, x);
  std::memcpy(to, values, count * sizeof(float));
}
inline float32x4_t load_four_f16(const uint16_t* from) {
  return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from)));
}
inline Lanes load_f16(const uint16_t* from) {
  return each_four([&](int i) { return load_four_f16(from + 4 * i); });
}
struct Halves {
  uint16x8_t part[2];
};
inline uint16x4_t four_f16_of(float32x4_t x) { return vreinterpret_u16_f16(vcvt_f16_f32(x)); }
inline Halves f16_of(const Lanes& x) {
  return {{vcombine_u16(four_f16_of(x.q[0]), four_f16_of(x.q[1])),
           vcombine_u16(four_f16_of(x.q[2]), four_f16_of(x.q[3]))}};
}
inline uint16x4_t four_bf16_of(float32x4_t x) {
  const uint32x4_t bits = vreinterpretq_u32_f32(x);
  const uint32x4_t upper = vshrq_n_u32(bits, 16);
  const uint32x4_t odd = vandq_u32(upper, vdupq_n_u32(1));
  const uint32x4_t rounded = vshrq_n_u32(vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7FFF)), odd), 16);
  const uint32x4_t quiet = vorrq_u32(upper, vdupq_n_u32(0x40));
  return vmovn_u32(vbslq_u32(vceqq_f32(x, x), rounded, quiet));
}
inline Halves bf16_of(const Lanes& x) {
  return {{vcombine_u16(four_bf16_of(x.q[0]), four_bf16_of(x.q[1])),
           vcombine_u16(four_bf16_of(x.q[2]), four_bf16_of(x.q[3]))}};
}
inline void store_halves(uint16_t* to, const Halves& x) {
  vst1q_u16(to, x.part[0]);
  vst1q_u16(to + 8, x.part[1]);
}
inline Lanes load_int8(const int8_t* from) {
  const int8x16_t bytes = vld1q_s8(from);
  const int16x8_t low = vmovl_s8(vget_low_s8(bytes));
  const int16x8_t high = vmovl_s8(vget_high_s8(bytes));
  return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
           vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)))}};
}
inline Lanes load_bf16(const uint16_t* from) {
  return each_four([&](int i) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(from + 4 * i), 16)); });
}

inline Lanes add(const Lanes& a, const Lanes& b) {
  return each_four([&](int i) { return vaddq_f32(a.q[i], b.q[i]); });
}
inline Lanes subtract(const Lanes& a, const Lanes& b) {
  return each_four([&](int i) { return vsubq_f32(a.q[i], b.q[i]); });
}
inline Lanes multiply(const Lanes& a, const Lanes& b) {
  return each_four([&](int i) { return vmulq_f32(a.q[i], b.q[i]); });
}
inline Lanes divide(const Lanes& a, const Lanes& b) {
  return each_four([&](int i) { return vdivq_f32(a.q[i], b.q[i]); });
}
inline Lanes fused(const Lanes& a, const Lanes& b, const Lanes& c) {
  return each_four([&](int i) { return vfmaq_f32(c.q[i], a.q[i], b.q[i]); });
}
// Not vmaxq: that gives NaN where either is, and the larger of two zeros.
inline float32x4_t larger_of_four(float32x4_t a, float32x4_t b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
inline Lanes maximum(const Lanes& a, const Lanes& b) {
  return each_four([&](int i) { return larger_of_four(a.q[i], b.q[i]); });
}
inline Lanes minimum(const Lanes& a, const Lanes& b) {
  return each_four([&](int i) { return vbslq_f32(vcltq_f32(a.q[i], b.q[i]), a.q[i], b.q[i]); });
}
inline Lanes keep_first(const Lanes& x, uint32_t count, const Lanes& other) {
  static constexpr uint32_t kNumbers[kLanes] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const uint32x4_t counts = vdupq_n_u32(count);
  return each_four(
      [&](int i) { return vbslq_f32(vcltq_u32(vld1q_u32(kNumbers + 4 * i), counts), x.q[i], other.q[i]); });
}
inline Lanes add_exponent(const Lanes& x, const Lanes& shifted) {
  return each_four([&](int i) {
    const uint32x4_t exponent = vshlq_n_u32(vreinterpretq_u32_f32(shifted.q[i]), 23);
    return vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(x.q[i]), exponent));
  });
}

inline Lanes swap_pairs(const Lanes& x) {
  return each_four([&](int i) { return vrev64q_f32(x.q[i]); });
}
inline Lanes negate_even(const Lanes& x) {
  const uint32x4_t signs = vreinterpretq_u32_u64(vdupq_n_u64(0x80000000U));
  return each_four(
      [&](int i) { return vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(x.q[i]), signs)); });
}
inline Lanes load_twice(const float* from) {
  const float32x4_t low = vld1q_f32(from);
  const float32x4_t high = vld1q_f32(from + 4);
  return {{vzip1q_f32(low, low), vzip2q_f32(low, low), vzip1q_f32(high, high), vzip2q_f32(high, high)}};
}

inline float sum(const Lanes& x) {
  const float32x4_t by4 = vaddq_f32(vaddq_f32(x.q[0], x.q[2]), vaddq_f32(x.q[1], x.q[3]));
  const float32x2_t by2 = vadd_f32(vget_low_f32(by4), vget_high_f32(by4));
  return vget_lane_f32(by2, 0) + vget_lane_f32(by2, 1);
}
inline float largest(const Lanes& x) {
  const float32x4_t by4 = larger_of_four(larger_of_four(x.q[0], x.q[2]), larger_of_four(x.q[1], x.q[3]));
  const float32x4_t by2 = larger_of_four(by4, vextq_f32(by4, by4, 2));
  return vgetq_lane_f32(larger_of_four(by2, vextq_f32(by2, by2, 1)), 0);
}

inline uint32_t largest_magnitude_bits(const Lanes& a, const Lanes& b) {
  const uint32x4_t magnitude = vdupq_n_u32(0x7FFFFFFFU);
  const auto larger = [&](int i) {
    return vmaxq_u32(vandq_u32(vreinterpretq_u32_f32(a.q[i]), magnitude),
                     vandq_u32(vreinterpretq_u32_f32(b.q[i]), magnitude));
  };
  return vmaxvq_u32(vmaxq_u32(vmaxq_u32(larger(0), larger(1)), vmaxq_u32(larger(2), larger(3))));
}

inline void round_to_int8(const Lanes& x, int8_t* out) {
  int32x4_t rounded[4];
  for (int i = 0; i < 4; i++) rounded[i] = vcvtnq_s32_f32(x.q[i]);
  const int16x8_t low = vcombine_s16(vmovn_s32(rounded[0]), vmovn_s32(rounded[1]));
  const int16x8_t high = vcombine_s16(vmovn_s32(rounded[2]), vmovn_s32(rounded[3]));
  vst1q_s8(out, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
}

inline Lanes larger_magnitude(const Lanes& a, const Lanes& b) {
  const uint32x4_t magnitude = vdupq_n_u32(0x7FFFFFFFU);
  return each_four([&](int i) {
    return vreinterpretq_f32_u32(vmaxq_u32(vandq_u32(vreinterpretq_u32_f32(a.q[i]), magnitude),
                                           vandq_u32(vreinterpretq_u32_f32(b.q[i]), magnitude)));
  });
}
inline Lanes largest_of_each(const Lanes (&rows)[kLanes]) {
  const auto fold = [&](int row) {
    const auto bits = [&](int i) { return vreinterpretq_u32_f32(rows[row].q[i]); };
    return vmaxq_u32(vmaxq_u32(bits(0), bits(1)), vmaxq_u32(bits(2), bits(3)));
  };
  return each_four([&](int i) {
    return vreinterpretq_f32_u32(
        vpmaxq_u32(vpmaxq_u32(fold(4 * i), fold(4 * i + 1)), vpmaxq_u32(fold(4 * i + 2), fold(4 * i + 3))));
  });
}
inline bool all_within(const Lanes& x, float least, uint32_t limit) {
  uint32x4_t all = vdupq_n_u32(~0U);
  for (const float32x4_t four : x.q) {
    const uint32x4_t bits = vreinterpretq_u32_f32(four);
    all = vandq_u32(all, vandq_u32(vcgeq_u32(bits, vreinterpretq_u32_f32(vdupq_n_f32(least))),
                                   vcltq_u32(bits, vdupq_n_u32(limit))));
  }
  return vminvq_u32(all) != 0;
}

struct Words {
  int32x4_t q[4];
};

template <typename Function>
inline __attribute__((always_inline)) Words each_four_words(Function function) {
  return {{function(0), function(1), function(2), function(3)}};
}

inline Words bits_of(const Lanes& x) {
  return each_four_words([&](int i) { return vreinterpretq_s32_f32(x.q[i]); });
}
inline Lanes to_floats(const Words& x) {
  return each_four([&](int i) { return vcvtq_f32_s32(x.q[i]); });
}
inline Words add_words(const Words& a, const Words& b) {
  return each_four_words([&](int i) { return vaddq_s32(a.q[i], b.q[i]); });
}
inline Words minus_times(int32_t start, int32_t factor, const Words& x) {
  return each_four_words([&](int i) { return vmlsq_n_s32(vdupq_n_s32(start), x.q[i], factor); });
}
inline Words sum_of_bytes(const Words& a, const Words& b, const Words& c, const Words& d) {
  const int8x16_t ones = vdupq_n_s8(1);
  return each_four_words([&](int i) {
    int32x4_t sums = vdotq_s32(vdupq_n_s32(0), vreinterpretq_s8_s32(a.q[i]), ones);
    sums = vdotq_s32(sums, vreinterpretq_s8_s32(b.q[i]), ones);
    sums = vdotq_s32(sums, vreinterpretq_s8_s32(c.q[i]), ones);
    return vdotq_s32(sums, vreinterpretq_s8_s32(d.q[i]), ones);
  });
}
inline void store_some_words(uint8_t* to, const Words& x, uint32_t count) {
  for (uint32_t i = 0; i < 4 && count > 0; i++) {
    if (count >= 4) {
      vst1q_u8(to + 16 * i, vreinterpretq_u8_s32(x.q[i]));
      count -= 4;
      continue;
    }
    alignas(16) int32_t last[4];
    vst1q_s32(last, x.q[i]);
    std::memcpy(to + 16 * i, last, count * sizeof(int32_t));
    count = 0;
  }
}
template <uint32_t kCount>
inline void round_words(const float (&values)[kLanes][kCount], const float (&factors)[kLanes],
                        Words (&words)[8]) {
  static_assert(kCount == 2 * kLanes);
  for (uint32_t q = 0; q < 4; q++) {
    // Four rows: their words 0 to 3, then 4 to 7.
    for (uint32_t h = 0; h < 2; h++) {
      int32x4_t rows[4];
      for (uint32_t r = 0; r < 4; r++) {
        const float* row = values[4 * q + r] + h * kLanes;
        const auto four = [&](int i) {
          return vmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(row + 4 * i), factors[4 * q + r])));
        };
        rows[r] = vreinterpretq_s32_s8(vcombine_s8(vmovn_s16(vcombine_s16(four(0), four(1))),
                                                   vmovn_s16(vcombine_s16(four(2), four(3)))));
      }
      const int64x2_t even01 = vreinterpretq_s64_s32(vtrn1q_s32(rows[0], rows[1]));
      const int64x2_t odd01 = vreinterpretq_s64_s32(vtrn2q_s32(rows[0], rows[1]));
      const int64x2_t even23 = vreinterpretq_s64_s32(vtrn1q_s32(rows[2], rows[3]));
      const int64x2_t odd23 = vreinterpretq_s64_s32(vtrn2q_s32(rows[2], rows[3]));
      words[4 * h].q[q] = vreinterpretq_s32_s64(vtrn1q_s64(even01, even23));
      words[4 * h + 1].q[q] = vreinterpretq_s32_s64(vtrn1q_s64(odd01, odd23));
      words[4 * h + 2].q[q] = vreinterpretq_s32_s64(vtrn2q_s64(even01, even23));
      words[4 * h + 3].q[q] = vreinterpretq_s32_s64(vtrn2q_s64(odd01, odd23));
    }
  }
}

inline constexpr uint32_t kColumnRows = 8;

inline void store_half_columns(uint16_t* to, size_t stride, const Halves (&rows)[kColumnRows]) {
  for (uint32_t part = 0; part < 2; part++) {
    uint16x8_t sorted[kColumnRows];
    for (uint32_t r = 0; r < kColumnRows; r++) sorted[r] = rows[r].part[part];
    // Zipping rows a half apart three times makes columns of them.
    for (uint32_t turn = 0; turn < 3; turn++) {
      uint16x8_t zipped[kColumnRows];
      for (uint32_t r = 0; r < kColumnRows / 2; r++) {
        zipped[2 * r] = vzip1q_u16(sorted[r], sorted[r + kColumnRows / 2]);
        zipped[2 * r + 1] = vzip2q_u16(sorted[r], sorted[r + kColumnRows / 2]);
      }
      for (uint32_t r = 0; r < kColumnRows; r++) sorted[r] = zipped[r];
    }
    for (uint32_t c = 0; c < kLanes / 2; c++) vst1q_u16(to + (part * (kLanes / 2) + c) * stride, sorted[c]);
  }
}

inline void store_int8_columns(int8_t* to, size_t stride, const int8_t* rows, size_t row_stride) {
  int8x16_t sorted[kColumnRows];
  for (uint32_t r = 0; r < kColumnRows; r++) sorted[r] = vld1q_s8(rows + r * row_stride);
  for (uint32_t turn = 0; turn < 3; turn++) {
    int8x16_t zipped[kColumnRows];
    for (uint32_t r = 0; r < kColumnRows / 2; r++) {
      zipped[2 * r] = vzip1q_s8(sorted[r], sorted[r + kColumnRows / 2]);
      zipped[2 * r + 1] = vzip2q_s8(sorted[r], sorted[r + kColumnRows / 2]);
    }
    for (uint32_t r = 0; r < kColumnRows; r++) sorted[r] = zipped[r];
  }
  for (uint32_t c = 0; c < kLanes / 2; c++) {
    vst1_s8(to + 2 * c * stride, vget_low_s8(sorted[c]));
    vst1_s8(to + (2 * c + 1) * stride, vget_high_s8(sorted[c]));
  }
}

}  // namespace
}  // namespace streamserve
