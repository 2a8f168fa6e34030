#include <immintrin.h>

#include "peak_chains.h"
#include "peaks.h"

namespace streamserve {
namespace {

// Enough independent chains to cover a latency of 5 on two ports.
constexpr int kChains = 12;

// The pair that the dots of 4-bit weights are made of: products into int16, and their sum.
uint64_t integer_dot(uint64_t rounds) {
  return run_chains<kChains>(
      rounds, _mm256_setzero_si256(), _mm256_set1_epi8(1), 32, [](__m256i dot, __m256i weights) {
        return _mm256_add_epi16(dot, _mm256_maddubs_epi16(weights, _mm256_set1_epi8(1)));
      });
}

uint64_t float_fma(uint64_t rounds) {
  return run_chains<kChains>(
      rounds, _mm256_setzero_ps(), _mm256_set1_ps(0.5F), 8,
      [](__m256 sum, __m256 weights) { return _mm256_fmadd_ps(weights, _mm256_set1_ps(0.5F), sum); });
}

}  // namespace

constinit const PeakLoops kAvx2Peaks = {integer_dot, float_fma};

}  // namespace streamserve
