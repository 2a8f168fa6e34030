#include "sampling/logit_row.h"

namespace streamserve {

void LogitRow::set(size_t token, float logit) {
  const float before = logits_[token];
  logits_[token] = logit;
  float& peak = peaks_[token / kLogitBlock];
  // Written so that NaN fails each comparison. What was below the peak and stays so leaves it.
  if (before < peak && logit <= peak) return;
  const std::span<const float> changed = block(token / kLogitBlock);
  kernels_->block_peaks(changed.data(), changed.size(), &peak);
}

}  // namespace streamserve
