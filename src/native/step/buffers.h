// Working memory of a lane's steps that its threads share.
#pragma once

#include <cstdint>

#include "compute/aligned.h"
#include "model/model.h"
#include "step/panels.h"

namespace streamserve {

// Bytes of `tokens` rows of `cols` values in the longest packing that a file can mix.
size_t largest_panel(const Model& model, uint32_t tokens, uint32_t cols);
// Likewise, of whatever the matrices of attention and the first ones of the feed-forward read.
size_t largest_input_panel(const Model& model, uint32_t tokens);

struct StepBuffers {
  // Room for `tokens` new tokens a step.
  StepBuffers(const Model& model, uint32_t tokens);

  Panels panels_of(Tokens some) const { return {panels.get(), panel_bytes, some}; }

  uint32_t tokens;
  // Floats of a token in the buffers below.
  size_t query_stride;  // query heads, key heads, value heads, side by side
  size_t attended_stride;

  AlignedArray<float> hidden;     // [token][embedding]: the residual stream
  AlignedArray<float> projected;  // [token][query_stride]
  AlignedArray<float> attended;   // [token][attended_stride]
  AlignedArray<float> branch;     // [token][embedding]: see Layers::join; nothing where nothing joins
  AlignedArray<float> normed;     // [token][embedding]: what experts and their router read; or nothing
  AlignedArray<float> cosines;    // [token][rotations of the model]
  AlignedArray<float> sines;
  // Packed by some threads for all, where each does not pack for itself. Memory that no step uses is never
  // touched, so the system does not give it.
  size_t panel_bytes;
  AlignedArray<uint8_t> panels;
  AlignedArray<uint8_t> gated;  // the packed input of a down matrix
};

}  // namespace streamserve
