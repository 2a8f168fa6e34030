#include "sampling/logits.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace streamserve {

Peak find_peak(const LogitRow& row) {
  float peak = -std::numeric_limits<float>::infinity();
  size_t block = 0;
  for (size_t b = 0; b < row.blocks(); ++b) {
    const float most = row.peaks()[b];
    if (std::isnan(most)) return {0, most, false};
    if (most > peak) {
      peak = most;
      block = b;
    }
  }
  if (!std::isfinite(peak)) return {0, peak, false};
  const std::span<const float> logits = row.block(block);
  const size_t at = static_cast<size_t>(std::find(logits.begin(), logits.end(), peak) - logits.begin());
  return {static_cast<uint32_t>(block * kLogitBlock + at), peak, true};
}

double log_sum_exp(std::span<const float> logits, float peak) {
  // Four partial sums in fixed columns: the order of additions is a function of the vocabulary alone.
  double sums[4] = {};
  for (size_t i = 0; i < logits.size(); ++i) sums[i % 4] += std::exp(logits[i] - peak);
  return static_cast<double>(peak) + std::log((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

}  // namespace streamserve
