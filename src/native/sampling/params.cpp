#include "sampling/params.h"

#include <algorithm>
#include <cmath>

namespace streamserve {

const char* SamplingParams::problem(uint32_t vocabulary) const {
  // Written so that NaN fails each comparison.
  if (!(temperature >= 0 && temperature <= 100)) return "temperature must be from 0 to 100";
  if (!(top_p > 0 && top_p <= 1)) return "top_p must be above 0 and at most 1";
  if (!(min_p >= 0 && min_p <= 1)) return "min_p must be from 0 to 1";
  // A smaller one could make a finite logit infinite, which fails the whole step.
  if (!(repetition_penalty >= 0.01f && repetition_penalty <= 100)) {
    return "repetition_penalty must be from 0.01 to 100";
  }
  if (!(std::abs(presence_penalty) <= 100)) return "presence_penalty must be from -100 to 100";
  if (!(std::abs(frequency_penalty) <= 100)) return "frequency_penalty must be from -100 to 100";
  if (logprobs < -1 || logprobs > kMostLogprobs) return "logprobs must be from -1 to 20";
  const auto outside = [vocabulary](uint32_t id) { return id >= vocabulary; };
  if (std::any_of(stop_ids.begin(), stop_ids.end(), outside)) return "a stop id is outside the vocabulary";
  for (const auto& [id, bias] : logit_bias) {
    if (outside(id)) return "a logit_bias id is outside the vocabulary";
    if (!(std::abs(bias) <= 1000)) return "a logit bias must be from -1000 to 1000";
  }
  return nullptr;
}

}  // namespace streamserve
