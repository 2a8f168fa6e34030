// Lines of 64 bytes in plain C++: what expanding quants needs.
//
// A lines_*.h file defines, in an anonymous namespace as lanes_*.h do, the type `Line` and the operations
// below. Masks must leave out what a shift brings in from the neighbouring byte.
#pragma once

#include <cstdint>
#include <cstring>

#include "lanes_portable.h"

namespace streamserve {
namespace {

inline constexpr uint32_t kLineBytes = 64;

struct Line {
  uint8_t at[kLineBytes];
};

template <typename Function>
inline Line each_byte(Function function) {
  Line result;
  for (uint32_t i = 0; i < kLineBytes; i++) result.at[i] = static_cast<uint8_t>(function(i));
  return result;
}

inline Line load_line(const uint8_t* from) {
  return each_byte([&](uint32_t i) { return from[i]; });
}
inline void store_line(uint8_t* to, const Line& x) { std::memcpy(to, x.at, sizeof(x.at)); }
// (x >> kBits) & mask, or (x << -kBits) & mask.
template <int kBits>
inline Line shifted_right(const Line& x, uint8_t mask) {
  return each_byte([&](uint32_t i) { return (kBits < 0 ? x.at[i] << -kBits : x.at[i] >> kBits) & mask; });
}
inline Line either(const Line& a, const Line& b) {
  return each_byte([&](uint32_t i) { return a.at[i] | b.at[i]; });
}
inline Line plus(const Line& x, uint8_t more) {
  return each_byte([&](uint32_t i) { return x.at[i] + more; });
}
// table[x], x being 0..15; 64-byte aligned table of 16.
inline Line looked_up(const uint8_t* table, const Line& x) {
  return each_byte([&](uint32_t i) { return table[x.at[i]]; });
}

// Sixteen bytes as f32.
inline Lanes load_u8(const uint8_t* from) {
  return each_lane([&](uint32_t i) { return static_cast<float>(from[i]); });
}
inline Lanes load_i8(const uint8_t* from) {
  return each_lane([&](uint32_t i) { return static_cast<float>(static_cast<int8_t>(from[i])); });
}

}  // namespace
}  // namespace streamserve
