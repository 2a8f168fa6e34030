// Lines of 64 bytes in four NEON registers. See lines_portable.h for what each operation means.
#pragma once

#include "lanes_neon.h"

namespace streamserve {
namespace {

struct Line {
  uint8x16_t q[4];
};

// Four registers, each by `function(its number)`.
template <typename Function>
inline __attribute__((always_inline)) Line each_sixteen(Function function) {
  return {{function(0), function(1), function(2), function(3)}};
}

inline Line load_line(const uint8_t* from) {
  return each_sixteen([&](int i) { return vld1q_u8(from + 16 * i); });
}
inline void store_line(uint8_t* to, const Line& x) {
  for (int i = 0; i < 4; i++) vst1q_u8(to + 16 * i, x.q[i]);
}
template <int kBits>
inline Line shifted_right(const Line& x, uint8_t mask) {
  const uint8x16_t kept = vdupq_n_u8(mask);
  return each_sixteen([&](int i) {
    if constexpr (kBits < 0) return vandq_u8(vshlq_n_u8(x.q[i], -kBits), kept);
    if constexpr (kBits == 0) return vandq_u8(x.q[i], kept);
    if constexpr (kBits > 0) return vandq_u8(vshrq_n_u8(x.q[i], kBits), kept);
  });
}
inline Line either(const Line& a, const Line& b) {
  return each_sixteen([&](int i) { return vorrq_u8(a.q[i], b.q[i]); });
}
inline Line plus(const Line& x, uint8_t more) {
  return each_sixteen([&](int i) { return vaddq_u8(x.q[i], vdupq_n_u8(more)); });
}
inline Line looked_up(const uint8_t* table, const Line& x) {
  const uint8x16_t values = vld1q_u8(table);
  return each_sixteen([&](int i) { return vqtbl1q_u8(values, x.q[i]); });
}

inline Lanes load_u8(const uint8_t* from) {
  const uint8x16_t bytes = vld1q_u8(from);
  const uint16x8_t low = vmovl_u8(vget_low_u8(bytes));
  const uint16x8_t high = vmovl_u8(vget_high_u8(bytes));
  return {{vcvtq_f32_u32(vmovl_u16(vget_low_u16(low))), vcvtq_f32_u32(vmovl_u16(vget_high_u16(low))),
           vcvtq_f32_u32(vmovl_u16(vget_low_u16(high))), vcvtq_f32_u32(vmovl_u16(vget_high_u16(high)))}};
}
inline Lanes load_i8(const uint8_t* from) {
  const int8x16_t bytes = vreinterpretq_s8_u8(vld1q_u8(from));
  const int16x8_t low = vmovl_s8(vget_low_s8(bytes));
  const int16x8_t high = vmovl_s8(vget_high_s8(bytes));
  return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
           vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)))}};
}

}  // namespace
}  // namespace streamserve
