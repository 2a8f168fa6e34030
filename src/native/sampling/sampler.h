// Draws the next token of one sequence.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "sampling/candidates.h"
#include "sampling/history.h"
#include "sampling/params.h"

namespace streamserve {

// Scratch of a draw, reused by whoever draws; holds no state between draws.
struct SamplingScratch {
  std::vector<Candidate> candidates;
};

struct Draw {
  uint32_t token = 0;
  bool stopped = false;
  // Natural log of the token's probability at temperature 1, after penalties and bias; 0 unless asked for.
  float logprob = 0;
  // The likeliest tokens with the same kind of log-probability in `logit`.
  std::vector<Candidate> top;
};

class Sampler {
 public:
  // `params.problem(vocabulary)` must be nullptr.
  explicit Sampler(SamplingParams params);

  // Tokens before the first draw: the prompt, then outputs of an interrupted request.
  void add_prompt(std::span<const uint32_t> tokens) { history_.add_prompt(tokens); }
  // Each token drawn and kept, in order.
  void add_output(uint32_t token) { history_.add_output(token); }
  // Takes back a token that add_output() was told of.
  void remove_output(uint32_t token) { history_.remove_output(token); }

  // Draws the token for absolute position `position`. Changes `row`. The result is a function of the
  // logits, the history, the parameters and the position alone. Nothing when the logits hold a NaN or no
  // finite value.
  std::optional<Draw> draw(LogitRow row, uint64_t position, SamplingScratch& scratch) const;

  const SamplingParams& params() const { return params_; }

 private:
  uint32_t draw_token(const LogitRow& row, const Peak& peak, uint64_t position,
                      SamplingScratch& scratch) const;

  SamplingParams params_;
  History history_;
};

}  // namespace streamserve
