// Which tokens a sequence has seen, as far as penalties need to know.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>

#include "sampling/logit_row.h"
#include "sampling/params.h"

namespace streamserve {

class History {
 public:
  // Keeps nothing but a count unless `params` penalise something.
  explicit History(const SamplingParams& params)
      : penalises_(params.repetition_penalty != 1 || params.presence_penalty != 0 ||
                   params.frequency_penalty != 0),
        repetition_(params.repetition_penalty),
        presence_(params.presence_penalty),
        frequency_(params.frequency_penalty) {}

  void add_prompt(std::span<const uint32_t> tokens);
  void add_output(uint32_t token);
  // Undoes add_output of the same token.
  void remove_output(uint32_t token);
  uint32_t outputs() const { return outputs_; }

  // Applies the penalties to `row` in place: repetition to prompt and output (CTRL, arXiv 1909.05858, with
  // negative logits multiplied), presence and frequency to the output alone, as OpenAI defines them.
  void penalise(LogitRow& row) const;

 private:
  bool penalises_;
  float repetition_, presence_, frequency_;
  uint32_t outputs_ = 0;
  struct Seen {
    uint32_t outputs = 0;
    bool in_prompt = false;
  };
  std::unordered_map<uint32_t, Seen> seen_;
};

}  // namespace streamserve
