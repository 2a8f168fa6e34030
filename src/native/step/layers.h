// The operations of a layer around its attention, each over some tokens and a share of its outputs. Each
// packs what the next one reads while it is still in the core's cache.
#pragma once

#include <cstdint>
#include <vector>

#include "kv/pool.h"
#include "model/model.h"
#include "step/batch.h"
#include "step/buffers.h"
#include "step/experts.h"
#include "step/workspace.h"

namespace streamserve {

class Layers {
 public:
  // All must outlive it.
  Layers(const Model& model, KvPool& pool, const StepBuffers& buffers, const Experts& experts);

  // Room for `tokens` tokens a step. May throw std::bad_alloc.
  void reserve(uint32_t tokens) { row_of_token_.reserve(tokens); }
  // From now on computes `batch`, of no more tokens than were reserved.
  void begin(const Batch& batch);

  // Embeddings and rotations of tokens.
  void embed(Tokens tokens, Workspace& work) const;

  // Inputs, packed into `in`, which is of these tokens or of more.
  void pack_attention_input(uint32_t layer, Tokens tokens, const Panels& in, Workspace& work) const;
  void pack_attended(uint32_t layer, Tokens tokens, const Panels& in, Workspace& work) const;
  void pack_feed_input(uint32_t layer, Tokens tokens, const Panels& in, Workspace& work) const;

  // Query, key and value heads: projected, rotated, keys and values stored.
  void project(uint32_t layer, const Panels& in, Share share, Workspace& work) const;
  // Most shares that project() has something for.
  uint32_t project_parts() const { return config_.heads + config_.kv_heads; }
  void attention_out(uint32_t layer, const Panels& in, Share share, Workspace& work) const;
  // Gate and up, and their product packed into `gated`, of all tokens of `in`.
  void gate_up(uint32_t layer, const Panels& in, Share share, uint8_t* gated, Workspace& work) const;
  void down(uint32_t layer, Tokens tokens, uint8_t* gated, Share share, Workspace& work) const;

  // Adds what attention, or the feed-forward, gave to the residual stream. Nothing to do where the last
  // matrix of either adds to the stream itself.
  void join_attention(uint32_t layer, Tokens tokens, Workspace& work) const;
  void join_feed(uint32_t layer, Tokens tokens, Workspace& work) const;
  // What experts and their router read; the router's scores.
  void prepare_router_input(uint32_t layer, Tokens tokens, Workspace& work) const;
  void route(uint32_t layer, const Panels& in, Share share, Workspace& work) const;

  // Matrices that read the same rows.
  Readers attention_readers(uint32_t layer) const;
  Readers feed_readers(uint32_t layer) const;
  // Whether the values are also multiplied by what quantisation took from their input.
  bool refines(uint32_t layer) const { return is_quantised(weights(layer).value.weights.packing); }

 private:
  const LayerWeights& weights(uint32_t layer) const { return model_.weights().layers()[layer]; }
  uint32_t position_of(uint32_t token) const;
  void project_query(uint32_t layer, const Panels& in, uint32_t head, Workspace& work) const;
  void project_key_value(uint32_t layer, const Panels& in, uint32_t head, Workspace& work) const;
  void multiply_head(const PackedMatrix& matrix, const Activations& in, uint32_t head, float* out,
                     bool accumulate) const;
  void rotate_head(uint32_t layer, uint32_t token, float* x, const float* bias, const float* norm) const;
  void join(const float* bias, const float* norm, uint32_t token) const;
  float* hidden(uint32_t token) const { return buffers_.hidden.get() + size_t{token} * config_.embedding; }
  // Where attention and feed-forward leave their results, and whether these are added to what is there.
  float* joined(uint32_t token) const;
  bool accumulates() const { return !model_.weights().branches(); }

  const Model& model_;
  const ModelConfig& config_;
  const Kernels& kernels_;
  KvPool& pool_;
  const StepBuffers& buffers_;
  const Experts& experts_;
  const Batch* batch_ = nullptr;
  std::vector<uint32_t> row_of_token_;
};

}  // namespace streamserve
