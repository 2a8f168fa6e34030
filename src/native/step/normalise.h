// RMSNorm of rows that are not packed at once.
#pragma once

#include <cstdint>

namespace streamserve {

// RMSNorm of one row: out = x / sqrt(mean(x^2) + epsilon) * weight. Sums in a fixed order.
void normalise(const float* x, const float* weight, float epsilon, uint32_t cols, float* out);

}  // namespace streamserve
