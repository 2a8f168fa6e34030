#include "sampling/logits.h"

#include <cmath>
#include <limits>

namespace streamserve {

Peak find_peak(std::span<const float> logits) {
  // Sixteen running maxima, each over its own column, so that the compiler may use vectors without being
  // allowed to reorder floating-point arithmetic.
  constexpr size_t kColumns = 16;
  float most[kColumns];
  int32_t nan[kColumns] = {};
  for (float& value : most) value = -std::numeric_limits<float>::infinity();
  size_t i = 0;
  for (; i + kColumns <= logits.size(); i += kColumns) {
    for (size_t c = 0; c < kColumns; ++c) {
      const float x = logits[i + c];
      most[c] = x > most[c] ? x : most[c];
      nan[c] |= x != x;
    }
  }
  for (; i < logits.size(); ++i) {
    const float x = logits[i];
    most[0] = x > most[0] ? x : most[0];
    nan[0] |= x != x;
  }
  float peak = most[0];
  bool usable = true;
  for (size_t c = 0; c < kColumns; ++c) {
    if (most[c] > peak) peak = most[c];
    if (nan[c] != 0) usable = false;
  }
  if (!std::isfinite(peak)) usable = false;
  if (!usable) return {0, peak, false};
  uint32_t token = 0;
  while (logits[token] != peak) ++token;
  return {token, peak, true};
}

double log_sum_exp(std::span<const float> logits, float peak) {
  // Four partial sums in fixed columns: the order of additions is a function of the vocabulary alone.
  double sums[4] = {};
  for (size_t i = 0; i < logits.size(); ++i) sums[i % 4] += std::exp(logits[i] - peak);
  return static_cast<double>(peak) + std::log((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

}  // namespace streamserve
