// Gate and up matrices, the gate's function and quantisation in one pass: some columns of both are
// multiplied, put together and packed for the down matrix while they are in the first-level cache.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"
#include "model/family.h"
#include "step/workspace.h"

namespace streamserve {

struct GatedProduct {
  const PackedMatrix* gate;
  const PackedMatrix* up;
  const float* gate_bias;  // or nullptr
  const float* up_bias;
  Activations gate_input;
  Activations up_input;
  Activations out;  // of as many tokens
  Gate function;
  // What a profile calls the two halves of it.
  Operation multiplying;
  Operation packing;
};

// Floats that Workspace::feed must have for products of up to `tokens` tokens.
size_t gated_floats(uint32_t tokens);

// Computes the columns of units [begin, end). Takes work.feed.
void multiply_gated(const Kernels& kernels, const GatedProduct& product, uint32_t begin, uint32_t end,
                    Workspace& work);

}  // namespace streamserve
