// Passes over a whole row of logits.
#pragma once

#include <cstdint>
#include <span>

namespace streamserve {

struct Peak {
  uint32_t token;  // the lowest id among equals
  float logit;
  bool usable;  // false when a logit is NaN or plus infinity, or none is above minus infinity
};

// `logits` must not be empty.
Peak find_peak(std::span<const float> logits);

// ln(sum of e^logit), summed in order of ids in double precision.
double log_sum_exp(std::span<const float> logits, float peak);

}  // namespace streamserve
