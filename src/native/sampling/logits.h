// What a whole row of logits comes to.
#pragma once

#include <cstdint>
#include <span>

#include "sampling/logit_row.h"

namespace streamserve {

struct Peak {
  uint32_t token;  // the lowest id among equals
  float logit;
  bool usable;  // false when a logit is NaN or plus infinity, or none is above minus infinity
};

// Reads the peaks of all blocks, and the logits of one.
Peak find_peak(const LogitRow& row);

// ln(sum of e^logit), summed in order of ids in double precision. Reads every logit.
double log_sum_exp(std::span<const float> logits, float peak);

}  // namespace streamserve
