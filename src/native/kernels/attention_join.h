// Joining what segments of a context gave to one row of attention. Include after a lanes_*.h.
#pragma once

#include "exponential.h"
#include "kernels.h"

namespace streamserve {
namespace {

// Widest head dimension.
inline constexpr uint32_t kHeadDimMost = 256;

// A partial is its outputs, [head_dim], its largest score in powers of two, and the sum of its probabilities.
inline void note_partial(float* partial, uint32_t head_dim, float peak, float total) {
  partial[head_dim] = peak;
  partial[head_dim + 1] = total;
}

inline void begin_joining(float* joined, uint32_t head_dim) {
  for (uint32_t d = 0; d < head_dim; d += kLanes) store(joined + d, zero());
  note_partial(joined, head_dim, -__builtin_huge_valf(), 0.0F);
}

// Partials must come in order of position. One that saw no token changes nothing, and is 0 in sum.
inline void join_partial(float* joined, const float* partial, uint32_t head_dim) {
  const float total = partial[head_dim + 1];
  if (total == 0.0F) return;
  const float before = joined[head_dim];
  const float here = partial[head_dim];
  const float peak = before > here ? before : here;
  // For the first partial 2^-126 stands for 2^-infinity and meets zeros.
  alignas(64) float shares[kLanes] = {before - peak, here - peak};
  store(shares, exp2_lanes(load(shares)));
  const Lanes keep = broadcast(shares[0]);
  const Lanes take = broadcast(shares[1]);
  for (uint32_t d = 0; d < head_dim; d += kLanes) {
    store(joined + d, fused(load(joined + d), keep, multiply(load(partial + d), take)));
  }
  note_partial(joined, head_dim, peak, __builtin_fmaf(joined[head_dim + 1], shares[0], total * shares[1]));
}

inline void end_joining(const float* joined, uint32_t head_dim, float* out) {
  const Lanes inverse = broadcast(1.0F / joined[head_dim + 1]);
  for (uint32_t d = 0; d < head_dim; d += kLanes) store(out + d, multiply(load(joined + d), inverse));
}

}  // namespace
}  // namespace streamserve
