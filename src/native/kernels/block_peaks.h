// The largest logit of each block of ids. Include after a lanes_*.h.
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>

#include "kernels.h"

namespace streamserve {
namespace {

// Of `count` values, one after the other; NaN when one of them is.
inline float plain_peak(const float* x, size_t count) {
  float peak = -std::numeric_limits<float>::infinity();
  for (size_t i = 0; i < count; ++i) {
    if (std::isnan(x[i])) return x[i];
    if (x[i] > peak) peak = x[i];
  }
  return peak;
}

inline float whole_block_peak(const float* x) {
  Lanes most = load(x);
  Lanes spoilt = multiply(most, zero());
#pragma GCC unroll 4
  for (size_t i = kLanes; i < kLogitBlock; i += kLanes) {
    const Lanes next = load(x + i);
    most = maximum(next, most);
    spoilt = fused(next, zero(), spoilt);
  }
  // Zeros, unless a NaN or an infinity was among them.
  return sum(spoilt) == 0 ? largest(most) : plain_peak(x, kLogitBlock);
}

inline void block_peaks(const float* x, size_t count, float* peaks) {
  for (; count >= kLogitBlock; count -= kLogitBlock, x += kLogitBlock) *peaks++ = whole_block_peak(x);
  if (count > 0) *peaks = plain_peak(x, count);
}

}  // namespace
}  // namespace streamserve
