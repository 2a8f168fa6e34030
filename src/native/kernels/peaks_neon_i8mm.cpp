#include <arm_neon.h>

#include "peaks.h"

namespace streamserve {
namespace {

// Enough independent chains to cover a latency of 4 on four pipes.
constexpr int kChains = 16;

uint64_t integer_dot(uint64_t rounds) {
  int32x4_t dots[kChains];
  for (int32x4_t& dot : dots) dot = vdupq_n_s32(0);
  uint8x16_t weights = vdupq_n_u8(1);
  const int8x16_t x = vdupq_n_s8(1);
  for (uint64_t round = 0; round < rounds; round++) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; i++) dots[i] = vusmmlaq_s32(dots[i], weights, x);
    asm volatile("" : "+w"(weights));
  }
  for (int32x4_t& dot : dots) asm volatile("" : "+w"(dot));
  return rounds * kChains * 32;
}

uint64_t float_fma(uint64_t rounds) {
  float32x4_t sums[kChains];
  for (float32x4_t& sum : sums) sum = vdupq_n_f32(0.0F);
  float32x4_t weights = vdupq_n_f32(0.5F);
  const float32x4_t x = vdupq_n_f32(0.5F);
  for (uint64_t round = 0; round < rounds; round++) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; i++) sums[i] = vfmaq_f32(sums[i], weights, x);
    asm volatile("" : "+w"(weights));
  }
  for (float32x4_t& sum : sums) asm volatile("" : "+w"(sum));
  return rounds * kChains * 4;
}

}  // namespace

constinit const PeakLoops kNeonI8mmPeaks = {integer_dot, float_fma};

}  // namespace streamserve
