// What 8-bit quantisation of activations loses, so that it can be added back where it matters most.
// docs/decisions/activations.md gives the measurements.
#pragma once

#include <cstddef>
#include <cstdint>

namespace streamserve {

// RMSNorm of one row: out = x / sqrt(mean(x^2) + epsilon) * weight. Sums in a fixed order.
void normalise(const float* x, const float* weight, float epsilon, uint32_t cols, float* out);

// out = x minus x as pack_activations() keeps it for a quantised packing: int8 with scale = largest / 127 a
// group. cols: a multiple of kGroup.
void quantisation_residual(const float* x, uint32_t cols, float* out);

}  // namespace streamserve
