// Independent chains of one operation in registers: the loop of every vector family's peaks.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#define STREAMSERVE_IN_REGISTER(value) asm volatile("" : "+v"(value))
#else
#define STREAMSERVE_IN_REGISTER(value) asm volatile("" : "+w"(value))
#endif

namespace streamserve {
namespace {

// Runs `rounds` rounds of chain = step(chain, weights, x) over kChains chains (at most 16), which begin at
// `zero`; returns the multiply-adds done, `of_a_step` each.
template <int kChains, typename Chain, typename Weights, typename Step>
inline uint64_t run_chains(uint64_t rounds, Chain zero, Weights weights, uint32_t of_a_step, Step step) {
  // Every loop is unrolled: an array that one walks through would live in memory.
  Chain chains[kChains];
#pragma GCC unroll 16
  for (int i = 0; i < kChains; i++) chains[i] = zero;
  for (uint64_t round = 0; round < rounds; round++) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; i++) {
      // Else the compiler would see that all steps multiply the same, and do it once.
      STREAMSERVE_IN_REGISTER(weights);
      chains[i] = step(chains[i], weights);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kChains; i++) STREAMSERVE_IN_REGISTER(chains[i]);
  return rounds * kChains * of_a_step;
}

}  // namespace
}  // namespace streamserve
