// Working memory of a lane's steps.
#pragma once

#include <cstdint>
#include <vector>

#include "compute/aligned.h"
#include "model/model.h"
#include "sampling/sampler.h"

namespace streamserve {

struct StepBuffers {
  // Room for `tokens` new tokens a step.
  StepBuffers(const Model& model, uint32_t tokens);
  // Room for the logits of `rows` positions at a time.
  void reserve_logits(const Model& model, uint32_t rows);

  uint32_t tokens;
  // Floats of a token in the buffers below.
  size_t query_stride;  // query heads, key heads, value heads, side by side
  size_t attended_stride;
  size_t feed_stride;  // gate and up, side by side

  AlignedArray<float> hidden;     // [token][embedding]: the residual stream
  AlignedArray<float> projected;  // [token][query_stride]
  AlignedArray<float> attended;   // [token][attended_stride]
  AlignedArray<float> feed;       // [token][feed_stride]
  AlignedArray<float> branch;     // [token][embedding]: see Forward::join; nothing where nothing joins
  AlignedArray<float> cosines;    // [token][rotations of the model]
  AlignedArray<float> sines;
  AlignedArray<float> normed;  // [token][embedding]: the attention input, and then its residual
  AlignedArray<float> residual;
  // Activations packed for the next matrices, one panel for each packing that they need.
  static constexpr uint32_t kPanels = 4;
  // The last panel: what quantisation took from the values' input.
  static constexpr uint32_t kResidualPanel = 3;
  size_t panel_bytes;
  AlignedArray<uint8_t> panels;

  uint32_t logit_rows = 0;
  AlignedArray<float> gathered;  // [logit row][embedding]
  AlignedArray<float> logits;    // [logit row][vocabulary]
  AlignedArray<float> peaks;     // [logit row][blocks of the vocabulary], see sampling/logit_row.h
  AlignedArray<uint8_t> head_panel;
  std::vector<SamplingScratch> samplers;  // one a thread
};

}  // namespace streamserve
