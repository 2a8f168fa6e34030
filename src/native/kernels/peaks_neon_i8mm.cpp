#include <arm_neon.h>

#include "peak_chains.h"
#include "peaks.h"

namespace streamserve {
namespace {

// Enough independent chains to cover a latency of 4 on four pipes.
constexpr int kChains = 16;

uint64_t integer_dot(uint64_t rounds) {
  return run_chains<kChains>(
      rounds, vdupq_n_s32(0), vdupq_n_u8(1), 32,
      [](int32x4_t dot, uint8x16_t weights) { return vusmmlaq_s32(dot, weights, vdupq_n_s8(1)); });
}

uint64_t float_fma(uint64_t rounds) {
  return run_chains<kChains>(
      rounds, vdupq_n_f32(0.0F), vdupq_n_f32(0.5F), 4,
      [](float32x4_t sum, float32x4_t weights) { return vfmaq_f32(sum, weights, vdupq_n_f32(0.5F)); });
}

}  // namespace

constinit const PeakLoops kNeonI8mmPeaks = {integer_dot, float_fma};

}  // namespace streamserve
