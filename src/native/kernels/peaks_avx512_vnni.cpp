#include <immintrin.h>

#include "peak_chains.h"
#include "peaks.h"

namespace streamserve {
namespace {

// Enough independent chains to cover a latency of 5 on two ports.
constexpr int kChains = 12;

uint64_t integer_dot(uint64_t rounds) {
  return run_chains<kChains>(
      rounds, _mm512_setzero_si512(), _mm512_set1_epi8(1), 64,
      [](__m512i dot, __m512i weights) { return _mm512_dpbusd_epi32(dot, weights, _mm512_set1_epi8(1)); });
}

uint64_t float_fma(uint64_t rounds) {
  return run_chains<kChains>(
      rounds, _mm512_setzero_ps(), _mm512_set1_ps(0.5F), 16,
      [](__m512 sum, __m512 weights) { return _mm512_fmadd_ps(weights, _mm512_set1_ps(0.5F), sum); });
}

}  // namespace

constinit const PeakLoops kAvx512VnniPeaks = {integer_dot, float_fma};

}  // namespace streamserve
