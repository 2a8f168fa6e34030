// GGUF's quantised blocks, read a group of 32 weights at a time.
#pragma once

#include "kernels.h"

namespace streamserve {

// A group of one row, scales and quants as its format's natural packing keeps them.
struct QuantGroup {
  uint16_t scale;    // f16 bits of d
  uint16_t minimum;  // f16 bits of m; 0 where the packing has none
  // Of the super packings: s and t, or s of the first 16 weights and of the rest (int8). Else 1.
  uint8_t steps[2];
  uint8_t quants[kGroup];
};

// Group `group` of a row that begins at `row`. Needs a quantised format.
QuantGroup read_group(Format format, const uint8_t* row, uint32_t group);
// The weights of a group, rounded once at most.
void widen_group(Format format, const QuantGroup& group, float* out);

}  // namespace streamserve
