// How to draw the next token: the native form of `Sampling` in src/engine/engine.ts.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace streamserve {

inline constexpr int32_t kMostLogprobs = 20;  // OpenAI's own limit for top_logprobs

struct SamplingParams {
  float temperature = 0;  // 0: greedy
  uint32_t top_k = 0;     // 0: all
  float top_p = 1;
  float min_p = 0;
  float repetition_penalty = 1;
  float presence_penalty = 0;
  float frequency_penalty = 0;
  uint64_t seed = 0;
  std::vector<std::pair<uint32_t, float>> logit_bias;
  std::vector<uint32_t> stop_ids;
  uint32_t min_tokens = 0;
  int32_t logprobs = -1;  // -1: none, 0: the drawn token's, n: also the n likeliest

  // nullptr when all fields are in range for a vocabulary of this size, else what is wrong.
  const char* problem(uint32_t vocabulary) const;
};

}  // namespace streamserve
