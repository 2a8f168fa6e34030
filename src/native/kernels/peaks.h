// Loops that do nothing but what a family's kernels are limited by. Each file of a family has its own.
#pragma once

#include <cstddef>
#include <cstdint>

namespace streamserve {

struct PeakLoops {
  // Runs `rounds` rounds of independent integer dots of int8 in registers, the way the family's kernels make
  // them; returns the multiply-adds done.
  uint64_t (*integer_dot)(uint64_t rounds);
  // The same with fused multiply-adds of f32.
  uint64_t (*float_fma)(uint64_t rounds);
};

extern const PeakLoops kPortablePeaks;
#if defined(__x86_64__)
extern const PeakLoops kAvx2Peaks;
extern const PeakLoops kAvx2VnniPeaks;
extern const PeakLoops kAvx512VnniPeaks;
#elif defined(__aarch64__)
extern const PeakLoops kNeonDotprodPeaks;
extern const PeakLoops kNeonI8mmPeaks;
#endif

}  // namespace streamserve
