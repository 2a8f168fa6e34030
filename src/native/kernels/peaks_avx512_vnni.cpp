#include <immintrin.h>

#include "peaks.h"

namespace streamserve {
namespace {

// Enough independent chains to cover a latency of 5 on two ports.
constexpr int kChains = 12;

uint64_t integer_dot(uint64_t rounds) {
  __m512i dots[kChains];
  for (__m512i& dot : dots) dot = _mm512_setzero_si512();
  __m512i weights = _mm512_set1_epi8(1);
  const __m512i x = _mm512_set1_epi8(1);
  for (uint64_t round = 0; round < rounds; round++) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; i++) dots[i] = _mm512_dpbusd_epi32(dots[i], weights, x);
    asm volatile("" : "+v"(weights));
  }
  for (__m512i& dot : dots) asm volatile("" : "+v"(dot));
  return rounds * kChains * 64;
}

uint64_t float_fma(uint64_t rounds) {
  __m512 sums[kChains];
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  __m512 weights = _mm512_set1_ps(0.5F);
  const __m512 x = _mm512_set1_ps(0.5F);
  for (uint64_t round = 0; round < rounds; round++) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; i++) sums[i] = _mm512_fmadd_ps(weights, x, sums[i]);
    asm volatile("" : "+v"(weights));
  }
  for (__m512& sum : sums) asm volatile("" : "+v"(sum));
  return rounds * kChains * 16;
}

}  // namespace

constinit const PeakLoops kAvx512VnniPeaks = {integer_dot, float_fma};

}  // namespace streamserve
