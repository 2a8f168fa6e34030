#include "sampling/logit_row.h"

#include <cmath>
#include <limits>

namespace streamserve {
namespace {

float block_peak(std::span<const float> block) {
  float peak = -std::numeric_limits<float>::infinity();
  for (const float logit : block) {
    if (std::isnan(logit)) return logit;
    if (logit > peak) peak = logit;
  }
  return peak;
}

}  // namespace

void LogitRow::set(size_t token, float logit) {
  const float before = logits_[token];
  logits_[token] = logit;
  float& peak = peaks_[token / kLogitBlock];
  // Written so that NaN fails each comparison. What was below the peak and stays so leaves it.
  if (before < peak && logit <= peak) return;
  peak = block_peak(block(token / kLogitBlock));
}

}  // namespace streamserve
