#include <immintrin.h>

#include "peaks.h"

namespace streamserve {
namespace {

// Enough independent chains to cover a latency of 5 on two ports.
constexpr int kChains = 12;

uint64_t integer_dot(uint64_t rounds) {
  __m256i dots[kChains];
  for (__m256i& dot : dots) dot = _mm256_setzero_si256();
  __m256i weights = _mm256_set1_epi8(1);
  const __m256i x = _mm256_set1_epi8(1);
  for (uint64_t round = 0; round < rounds; round++) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; i++) dots[i] = _mm256_dpbusd_avx_epi32(dots[i], weights, x);
    asm volatile("" : "+x"(weights));
  }
  for (__m256i& dot : dots) asm volatile("" : "+x"(dot));
  return rounds * kChains * 32;
}

uint64_t float_fma(uint64_t rounds) {
  __m256 sums[kChains];
  for (__m256& sum : sums) sum = _mm256_setzero_ps();
  __m256 weights = _mm256_set1_ps(0.5F);
  const __m256 x = _mm256_set1_ps(0.5F);
  for (uint64_t round = 0; round < rounds; round++) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; i++) sums[i] = _mm256_fmadd_ps(weights, x, sums[i]);
    asm volatile("" : "+x"(weights));
  }
  for (__m256& sum : sums) asm volatile("" : "+x"(sum));
  return rounds * kChains * 8;
}

}  // namespace

constinit const PeakLoops kAvx2VnniPeaks = {integer_dot, float_fma};

}  // namespace streamserve
