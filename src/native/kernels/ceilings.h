// What this machine can do at best, measured: the yardstick of every figure of efficiency.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels.h"

namespace streamserve {

// All per second, summed over the threads. 0 where a thread could not be started.
struct Ceilings {
  double integer_macs;  // int8 multiply-adds of the family's dot instruction, in registers
  double float_macs;    // f32 multiply-adds, in registers
  double read_bytes;    // reading `read_bytes` once over, each thread its own part
};

// Takes about half a second. `read_bytes` should be the size of the weights that decode streams: a machine
// may keep them in a last-level cache. Fewer bytes (rounded down to 4 KiB a thread) measure a cache; 0 skips
// the measurement. The best of several tries each, since whatever else runs on the machine only takes away.
Ceilings measure_ceilings(const Kernels& kernels, uint32_t threads, size_t read_bytes);

}  // namespace streamserve
