// The end of a step: logits of the positions that want them, and the draws from these.
#pragma once

#include <cstdint>
#include <vector>

#include "compute/aligned.h"
#include "model/model.h"
#include "sampling/logit_row.h"
#include "sampling/sampler.h"
#include "step/batch.h"
#include "step/share.h"

namespace streamserve {

class Logits {
 public:
  // `model` must outlive it.
  explicit Logits(const Model& model);

  // Cuts a batch's logits into passes, for up to `threads` threads beside the collecting one. May throw
  // std::bad_alloc.
  void plan(Batch& batch, uint32_t threads);
  // Most passes of a step of `tokens` tokens: two neighbours hold more than kPass positions together, or they
  // would be one.
  static uint32_t most_passes(uint32_t tokens) { return 2 * divide_up(tokens, kPass) + 1; }
  // Threads that sampling memory is there for.
  size_t samplers() const { return samplers_.size(); }

  uint32_t passes() const { return static_cast<uint32_t>(passes_.size()); }
  // Rows that a pass draws from, and positions whose logits it computes.
  uint32_t rows(uint32_t pass) const { return passes_[pass].rows; }
  uint32_t positions(uint32_t pass) const { return passes_[pass].logits; }
  // Most shares that multiply() has something for.
  uint32_t parts() const { return units_of(model_.weights().head()); }

  // Normalises and packs the positions of a pass: [token][embedding] are all of the batch's. Before
  // multiply().
  void gather(uint32_t pass, const float* hidden);
  void multiply(uint32_t pass, Share share);
  // Draws, or scores, what a row of the pass asks for.
  void sample(uint32_t pass, uint32_t row, uint32_t thread);
  // Positions that sample() looked at.
  uint64_t positions_drawn(uint32_t pass) const;

 private:
  // Positions of a pass: enough of them that reading the head's weights once a pass costs little beside
  // multiplying them. The logits of all rows at once would take more memory than everything else of a step.
  static constexpr uint32_t kPass = 32;

  struct Pass {
    uint32_t first_row;  // within sampled_rows_
    uint32_t rows;
    uint32_t first;  // within the batch's logits
    uint32_t logits;
  };

  void reserve(uint32_t rows);
  void finish(uint32_t pass, uint32_t first, uint32_t last);
  // The logits of a row's position, counted among those it wants. Valid in its pass.
  LogitRow logits_of(const BatchRow& row, uint32_t position) const;
  void draw_tokens(BatchRow& row, SamplingScratch& scratch);
  void score(const BatchRow& row);

  const Model& model_;
  const ModelConfig& config_;
  const Kernels& kernels_;
  Batch* batch_ = nullptr;
  std::vector<uint32_t> sampled_rows_;
  std::vector<Pass> passes_;
  // The first of the batch's logits that the buffer holds.
  uint32_t from_ = 0;
  uint32_t room_ = 0;
  AlignedArray<float> gathered_;  // [position][embedding]
  AlignedArray<float> logits_;    // [position][vocabulary]
  AlignedArray<float> peaks_;     // [position][blocks of the vocabulary], see sampling/logit_row.h
  AlignedArray<uint8_t> panel_;
  std::vector<SamplingScratch> samplers_;  // one a thread
};

}  // namespace streamserve
