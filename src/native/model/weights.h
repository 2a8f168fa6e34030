// The weights of a model, repacked for the kernels of this processor. Read-only once loaded, shared by all
// lanes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "compute/aligned.h"
#include "kernels/kernels.h"
#include "model/config.h"
#include "model/weight_memory.h"

namespace streamserve {

// A matrix and what is added to its products.
struct Linear {
  PackedMatrix weights{};
  const float* bias = nullptr;  // nullptr: nothing
};

// One expert of a mixture.
struct ExpertWeights {
  PackedMatrix gate{};
  PackedMatrix up{};
  PackedMatrix down{};
};

// Norms that a family lacks are nullptr.
struct LayerWeights {
  const float* attention_norm = nullptr;
  const float* feed_forward_norm = nullptr;
  const float* query_norm = nullptr;  // of each head
  const float* key_norm = nullptr;
  const float* attention_post_norm = nullptr;
  const float* feed_forward_post_norm = nullptr;
  Linear query;
  Linear key;
  Linear value;
  Linear attention_out;
  Linear gate;
  Linear up;
  Linear down;
  // A mixture of experts, in place of gate, up and down.
  PackedMatrix router{};
  std::vector<ExpertWeights> experts;
};

class Weights {
 public:
  // Packs every tensor with `kernels`, or finds it packed in the cache. `exact` widens all matrices to f32:
  // the reference mode. Throws the model_* errors or `out_of_memory`.
  Weights(const ModelSource& source, const ModelConfig& config, const Kernels& kernels, bool exact,
          const WeightMemoryOptions& options);

  const std::vector<LayerWeights>& layers() const { return layers_; }
  // Whether something is done to what attention and feed-forward give before it joins the residual stream.
  bool branches() const { return branches_; }
  const float* output_norm() const { return output_norm_; }
  const PackedMatrix& head() const { return head_; }
  // Of one token's embedding, as the file holds it.
  size_t embedding_row_bytes() const { return embedding_row_bytes_; }
  // Widens the embedding of a token.
  void embed(const Kernels& kernels, uint32_t token, float* out) const;
  // Divisors of the rotation frequencies, rotated/2 of them; nullptr for none.
  // `long_context`: those for contexts beyond the one that the model was first trained for, where they
  // differ.
  const float* rope_factors(bool long_context) const {
    return long_context ? long_rope_factors_ : rope_factors_;
  }
  // Where the bytes of packed matrices and embeddings are and come from.
  const WeightMemory& memory() const { return memory_; }

 private:
  struct Plan;

  void plan_experts(Plan& plan, const ModelConfig& config, uint32_t index);
  void plan_layer(Plan& plan, const ModelConfig& config, uint32_t index);
  const float* keep(AlignedArray<float> vector);

  WeightMemory memory_;
  Format embedding_format_ = Format::kF32;
  size_t embedding_row_bytes_ = 0;
  uint32_t embedding_cols_ = 0;
  std::vector<AlignedArray<float>> vectors_;
  std::vector<LayerWeights> layers_;
  bool branches_ = false;
  const float* output_norm_ = nullptr;
  const float* rope_factors_ = nullptr;
  const float* long_rope_factors_ = nullptr;
  PackedMatrix head_{};
};

}  // namespace streamserve
