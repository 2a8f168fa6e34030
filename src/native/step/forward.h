// The forward pass over a batch, and the draws at its end, as a program of parallel regions.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "compute/program.h"
#include "compute/task.h"
#include "kv/pool.h"
#include "model/model.h"
#include "step/attention.h"
#include "step/batch.h"
#include "step/buffers.h"
#include "step/experts.h"
#include "step/operation.h"
#include "step/profile.h"

namespace streamserve {

class Forward final : public Program {
 public:
  // Steps of at most `tokens` new tokens. `model` and `pool` must outlive it.
  Forward(const Model& model, KvPool& pool, uint32_t tokens);

  // Readies the program for `batch`, which must stay where it is while the program runs; it gets the draws.
  // `cores` and `threads` size the chunks and the sampling memory; they never show in a result. May throw
  // std::bad_alloc.
  void prepare(Batch& batch, uint32_t cores, uint32_t threads);

  // Threads that sampling memory is there for.
  size_t samplers() const { return buffers_.samplers.size(); }

  // From now on, notes what each step's operations come to.
  void profile_steps();
  // Of the program's last run, by `task`, a timed one. Needs profile_steps() before prepare().
  StepProfile profile(const Task& task) const;

  // Most regions that a program can have.
  uint32_t most_regions() const;

  std::span<const uint32_t> regions() const override { return chunks_; }
  void run(uint32_t region, uint32_t chunk, ThreadScratch scratch) noexcept override;
  void finish(uint32_t region) noexcept override;

 private:
  struct Region {
    Operation operation;
    uint32_t layer;
    uint32_t pass;  // of kHead and kSample
  };
  // Rows whose logits are computed and drawn from together: the logits of all rows at once would take more
  // memory than everything else of a step.
  struct LogitsPass {
    uint32_t first_row;  // within sampled_rows_
    uint32_t rows;
    uint32_t first;  // within the batch's logits
    uint32_t logits;
  };
  // Matrices that read the same activations.
  struct Matrices {
    struct One {
      const PackedMatrix* weights;
      float* out;
      // Also multiply by what quantisation took from the activations.
      bool refine = false;
    };
    std::array<One, 3> members;
    uint32_t count;
    size_t stride;
    bool accumulate;
  };

  void add(Operation operation, uint32_t layer, uint32_t chunks, uint32_t pass = 0);
  void plan_logits();
  void finish_inline(uint32_t region);
  uint32_t matmul_chunks(const Matrices& matrices, uint32_t cores) const;
  uint32_t token_chunks() const;
  Matrices matrices(Operation operation, uint32_t layer) const;

  void embed(uint32_t begin, uint32_t end);
  void join_attention(const LayerWeights& weights, uint32_t begin, uint32_t end);
  void join_feed(const LayerWeights& weights, uint32_t begin, uint32_t end);
  void join(const float* branch_bias, const float* branch_norm, uint32_t token);
  void prepare_heads(const LayerWeights& weights, float* query);
  void rotate(uint32_t layer, uint32_t begin, uint32_t end);
  void pack(Operation operation, uint32_t layer, uint32_t begin, uint32_t end);
  void prepare_attention_input(uint32_t layer, uint32_t begin, uint32_t end);
  void prepare_router_input(const LayerWeights& weights, uint32_t begin, uint32_t end);
  void prepare_gated(const LayerWeights& weights, uint32_t begin, uint32_t end);
  void multiply(const Matrices& matrices, uint32_t chunk, uint32_t chunks);
  void gather_head_input(const LogitsPass& pass);
  void multiply_head(const LogitsPass& pass, uint32_t chunk, uint32_t chunks);
  void finish_logits(const LogitsPass& pass, uint32_t first, uint32_t last);
  void sample(const LogitsPass& pass, uint32_t chunk, ThreadScratch scratch);
  // The logits of a row's position, counted among those it wants. Valid in its pass.
  LogitRow logits_of(const BatchRow& row, uint32_t position) const;
  Operation finishing(uint32_t region) const;
  void note_work(uint32_t region);
  Work work_of(Operation operation, uint32_t layer, uint32_t pass) const;
  Work product_work(const PackedMatrix& matrix, uint64_t tokens, uint32_t times, bool accumulate) const;
  Work pack_work(const Matrices& next, uint64_t tokens, uint64_t width) const;
  Work attention_work(Operation operation, uint32_t layer) const;

  void draw_tokens(BatchRow& row, SamplingScratch& scratch);
  void score(const BatchRow& row);

  const Model& model_;
  const ModelConfig& config_;
  const Kernels& kernels_;
  KvPool& pool_;
  StepBuffers buffers_;
  Attention attention_;
  Experts experts_;

  Batch* batch_ = nullptr;
  // Few tokens: packing and rotating are too short to share, and run between two regions.
  bool inline_tokens_ = false;
  // Tokens of a chunk, and slots of the experts, where each is work of its own.
  uint32_t tokens_a_chunk_ = 1;
  uint32_t slots_a_chunk_ = 1;
  std::vector<Region> program_;
  std::vector<uint32_t> chunks_;
  std::vector<uint32_t> row_of_token_;
  std::vector<uint32_t> sampled_rows_;
  std::vector<LogitsPass> passes_;
  // The first of the batch's logits that the buffer holds.
  uint32_t logits_from_ = 0;
  bool profiling_ = false;
  StepProfile profile_;
};

}  // namespace streamserve
