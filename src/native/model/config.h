// What a model file says about its network.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/family.h"
#include "model/rope.h"
#include "source/model_source.h"

namespace streamserve {

// What layers of one model can differ in.
struct LayerKind {
  // A position attends to so many tokens, the latest, itself included; 0: to all.
  uint32_t window = 0;
  // Which of the model's rotations.
  uint32_t rope = 0;
};

struct ModelConfig {
  const Family* family = nullptr;
  std::string architecture;
  uint32_t layers = 0;
  uint32_t embedding = 0;
  uint32_t feed_forward = 0;  // of each expert, in a mixture
  // Experts of a layer, and how many of them compute a token; 0: no mixture.
  uint32_t experts = 0;
  uint32_t experts_used = 0;
  uint32_t heads = 0;
  uint32_t kv_heads = 0;
  uint32_t head_dim = 0;
  uint32_t vocabulary = 0;
  uint32_t context = 0;
  float norm_epsilon = 0;
  float embedding_scale = 1;
  // Scores are multiplied by it.
  float attention_scale = 0;
  // x becomes cap * tanh(x / cap), for attention scores and for logits; 0: it stays.
  float attention_cap = 0;
  float logit_cap = 0;
  // Dimensions of a head that are rotated, the first ones.
  uint32_t rotated = 0;
  std::vector<Rope> ropes;
  std::vector<LayerKind> kinds;  // one a layer
};

// Reads and checks the hyper-parameters. Throws `model_architecture_unsupported`, naming what the file asks
// for, or `model_file_invalid`.
ModelConfig read_config(const ModelSource& source);

}  // namespace streamserve
