// The forward pass over a batch, and the draws at its end, as a program of parallel regions.
//
// Few tokens: a region an operation, whose chunks are shares of its outputs; each thread packs the input for
// itself. Many: chunks are blocks of tokens, and a region does everything between one layer's attention and
// the next one's for its block. docs/decisions/step.md has the reasons and measurements.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
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
#include "step/layers.h"
#include "step/logits.h"
#include "step/operation.h"
#include "step/profile.h"
#include "step/workspace.h"

namespace streamserve {

class Forward final : public Program {
 public:
  // Steps of at most `tokens` new tokens. `model` and `pool` must outlive it.
  Forward(const Model& model, KvPool& pool, uint32_t tokens);

  // Readies the program for `batch`, which must stay where it is while the program runs; it gets the draws.
  // `cores` and `threads` size the chunks and the threads' working memory; they never show in a result. May
  // throw std::bad_alloc.
  void prepare(Batch& batch, uint32_t cores, uint32_t threads);

  // Threads that working memory is there for.
  size_t samplers() const { return logits_.samplers(); }

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
  enum class Stage : uint8_t {
    // Chunks are some tokens.
    kEmbed,
    kPackAttentionInput,
    kPackAttended,
    kJoinAttention,
    kPackFeedInput,
    kJoinFeed,
    kChoose,
    // Chunks are shares of the outputs of all tokens.
    kProject,
    kAttentionOut,
    kGateUp,
    kDown,
    kRoute,
    kAttend,
    // Of slots, or of outputs of all slots.
    kPackExperts,
    kExpertsGateUp,
    kExpertsDown,
    // Chunks are blocks of tokens: all between attention in the layer before and in this one; without the
    // feed-forward where experts compute it, and then all up to the choice of these.
    kBlocks,
    kRouteBlocks,
    kHead,
    kSample,
  };
  struct Region {
    Stage stage;
    uint32_t layer;
    uint32_t pass;  // of kHead and kSample
  };

  void add(Stage stage, uint32_t layer, uint32_t chunks, uint32_t pass = 0);
  void plan_shares(uint32_t cores);
  void plan_blocks(uint32_t cores);
  void plan_experts(uint32_t layer, uint32_t cores);
  void plan_logits(uint32_t cores);

  Tokens all() const { return {0, batch_->tokens}; }
  Tokens wanted(Tokens block) const;
  template <typename Pack>
  Panels input(uint32_t region, Workspace& work, Pack pack);
  void run_tokens(const Region& region, Tokens tokens, Workspace& work);
  void run_share(uint32_t region, Share share, Workspace& work);
  void run_block(uint32_t layer, Tokens tokens, Workspace& work);
  void finish_layer(uint32_t layer, Tokens tokens, Workspace& work);
  void route_block(uint32_t layer, Tokens tokens, Workspace& work);
  void run_experts(const Region& region, uint32_t chunk, Share share, Workspace& work);

  // For the profile.
  template <typename Visit>
  void each_operation(uint32_t region, Visit visit) const;
  Operation finishing(uint32_t region) const;
  void note(uint32_t region);
  Work work_of(Operation operation, uint32_t layer, uint32_t pass) const;
  Work product_work(const PackedMatrix& matrix, uint64_t tokens, uint32_t times, bool accumulate) const;
  Work pack_work(const Readers& readers, bool rest, uint64_t tokens, uint64_t width) const;
  Work attention_work(Operation operation, uint32_t layer) const;

  const Model& model_;
  const ModelConfig& config_;
  const Kernels& kernels_;
  KvPool& pool_;
  StepBuffers buffers_;
  Attention attention_;
  Experts experts_;
  Layers layers_;
  Logits logits_;
  std::vector<std::unique_ptr<Workspace>> workspaces_;  // one a thread

  Batch* batch_ = nullptr;
  // Threads pack the inputs of shares for themselves.
  bool packs_alone_ = false;
  // Inputs of earlier steps, so that none is taken for another's.
  uint64_t inputs_ = 0;
  // Tokens that the last layer computes after its attention.
  uint32_t last_tokens_ = 0;
  // Tokens, or slots of experts, of a chunk of these.
  uint32_t tokens_a_chunk_ = 1;
  uint32_t slots_a_chunk_ = 1;
  std::vector<Region> program_;
  std::vector<uint32_t> chunks_;

  bool profiling_ = false;
  StepProfile profile_;
  std::vector<OperationClock::Times> spent_;  // by region: of all threads
};

}  // namespace streamserve
