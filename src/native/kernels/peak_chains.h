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
  Chain chains[kChains];
  for (Chain& chain : chains) chain = zero;
  for (uint64_t round = 0; round < rounds; round++) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; i++) chains[i] = step(chains[i], weights);
    // Else the compiler would see that every round does the same.
    STREAMSERVE_IN_REGISTER(weights);
  }
  for (Chain& chain : chains) STREAMSERVE_IN_REGISTER(chain);
  return rounds * kChains * of_a_step;
}

}  // namespace
}  // namespace streamserve
