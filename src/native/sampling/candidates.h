// Which tokens may be drawn: top-k, then top-p over what that leaves, then min-p.
#pragma once

#include <cstdint>
#include <vector>

#include "sampling/logits.h"
#include "sampling/params.h"

namespace streamserve {

struct Candidate {
  uint32_t token;
  float logit;
};

// The likeliest first; the lower id among equals.
inline bool likelier(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

// True when `params` leave every token possible.
bool keeps_all(const SamplingParams& params);

// The candidates, likeliest first, in `out` (reused between calls). Probabilities are those of
// softmax(logits / temperature); `peak` is find_peak(row), usable.
void select_candidates(const LogitRow& row, const Peak& peak, const SamplingParams& params,
                       std::vector<Candidate>& out);

// The `count` likeliest tokens, likeliest first; fewer when the vocabulary is smaller.
void select_likeliest(const LogitRow& row, const Peak& peak, size_t count, std::vector<Candidate>& out);

}  // namespace streamserve
