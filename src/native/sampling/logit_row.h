// A row of logits that can be searched without being read: of each block of ids the largest logit is known.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/kernels.h"

namespace streamserve {

inline constexpr size_t logit_blocks(size_t vocabulary) {
  return (vocabulary + kLogitBlock - 1) / kLogitBlock;
}

// Does not own its memory.
class LogitRow {
 public:
  // `logits` must not be empty, and `peaks` be what block_peaks makes of them.
  LogitRow(const Kernels& kernels, std::span<float> logits, std::span<float> peaks)
      : kernels_(&kernels), logits_(logits), peaks_(peaks) {}

  size_t size() const { return logits_.size(); }
  size_t blocks() const { return peaks_.size(); }
  float operator[](size_t token) const { return logits_[token]; }
  std::span<const float> logits() const { return logits_; }
  std::span<const float> peaks() const { return peaks_; }
  // The logits of a block, whose first id is block * kLogitBlock. The last may be short.
  std::span<const float> block(size_t block) const {
    const size_t first = block * kLogitBlock;
    return logits_.subspan(first,
                           logits_.size() - first < kLogitBlock ? logits_.size() - first : kLogitBlock);
  }

  // Sum of e^((logit - peak) / temperature) over all ids, right to kExpSumError if `peak` is the largest
  // logit; may be NaN for temperatures next to 0.
  double mass(float peak, double temperature) const {
    return kernels_->exp_sum(logits_.data(), logits_.size(), peak, static_cast<float>(1 / temperature));
  }

  // Changes a logit, and the peak of its block if that is another then.
  void set(size_t token, float logit);

 private:
  const Kernels* kernels_;
  std::span<float> logits_;
  std::span<float> peaks_;
};

}  // namespace streamserve
