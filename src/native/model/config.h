// What a model file says about its network.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "source/model_source.h"

namespace streamserve {

struct ModelConfig {
  std::string architecture;
  uint32_t layers = 0;
  uint32_t embedding = 0;
  uint32_t feed_forward = 0;
  uint32_t heads = 0;
  uint32_t kv_heads = 0;
  uint32_t head_dim = 0;
  uint32_t vocabulary = 0;
  uint32_t context = 0;
  float norm_epsilon = 0;
  double rope_base = 0;
  // Positions are divided by this before the rotation.
  double rope_scale = 1;
  RopeStyle rope_style = RopeStyle::kInterleaved;
};

// Reads and checks the hyper-parameters. Throws `model_architecture_unsupported`, naming what the file asks
// for, or `model_file_invalid`.
ModelConfig read_config(const ModelSource& source);

}  // namespace streamserve
