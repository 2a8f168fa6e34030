#include "peaks.h"

namespace streamserve {
namespace {

// The compiler's vectors stand for what it makes of plain loops on this processor.
constexpr int kChains = 8;

uint64_t integer_dot(uint64_t rounds) {
  using Vector = int16_t __attribute__((vector_size(16)));
  Vector dots[kChains] = {};
  Vector weights = Vector{} + 1;
  for (uint64_t round = 0; round < rounds; round++) {
    for (Vector& dot : dots) dot += weights * weights;
    asm volatile("" : "+m"(weights));
  }
  for (Vector& dot : dots) asm volatile("" : "+m"(dot));
  return rounds * kChains * 8;
}

uint64_t float_fma(uint64_t rounds) {
  float sums[kChains] = {};
  float weight = 0.5F;
  for (uint64_t round = 0; round < rounds; round++) {
    for (float& sum : sums) sum = __builtin_fmaf(weight, weight, sum);
    asm volatile("" : "+m"(weight));
  }
  for (float& sum : sums) asm volatile("" : "+m"(sum));
  return rounds * kChains;
}

}  // namespace

constinit const PeakLoops kPortablePeaks = {integer_dot, float_fma};

}  // namespace streamserve
