// Attention over the rows of one step: how it is cut into chunks, and the chunks themselves.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "compute/aligned.h"
#include "compute/program.h"
#include "kv/pool.h"
#include "model/model.h"
#include "step/batch.h"
#include "step/buffers.h"

namespace streamserve {

class Attention {
 public:
  // All must outlive it.
  Attention(const Model& model, KvPool& pool, const StepBuffers& buffers);

  // Cuts the attention of a batch's rows into chunks, the same in every layer. `cores` sizes them and never
  // shows in a result. `all`: the last layer is computed for all positions, not just for those that want
  // logits and their neighbours. May throw std::bad_alloc.
  void plan(const Batch& batch, uint32_t cores, bool all);
  // At least 1.
  uint32_t chunks() const { return static_cast<uint32_t>(chunks_.size()); }
  // Computes a chunk in a layer. A layer's chunks may run side by side; the next layer's only after all of
  // them.
  void run(uint32_t layer, uint32_t chunk, ThreadScratch scratch);
  // The first of a row's new tokens that a layer computes.
  uint32_t first_computed(uint32_t layer, const BatchRow& row) const;

 private:
  // Some positions of one row, with query heads that share a KV head.
  struct Run {
    uint32_t row;
    uint32_t first;  // position within the row's new tokens
    uint32_t positions;
    uint32_t kv_head;
    uint32_t first_head;  // within the KV head's group
    uint32_t heads;
    // Chunks that share its context, and where what they leave for joining begins, in floats.
    uint32_t parts;
    size_t partials;
  };
  // Segments [begin, end) of a run's context.
  struct Chunk {
    uint32_t run;
    uint32_t begin;
    uint32_t end;
  };

  void list_runs(uint32_t cores);
  void cut_runs(uint32_t cores);
  uint32_t segments_of(const Run& run) const;
  uint64_t cost_of(const Run& run) const;
  AttentionTask task_of(uint32_t layer, const Run& run) const;
  // What the thread that computes a chunk will probably read next.
  KeysOfBlocks keys_after(uint32_t layer, uint32_t chunk) const;

  const ModelConfig& config_;
  const Kernels& kernels_;
  KvPool& pool_;
  const StepBuffers& buffers_;

  const Batch* batch_ = nullptr;
  bool all_ = true;
  uint32_t cores_ = 1;
  std::vector<Run> runs_;
  std::vector<Chunk> chunks_;
  // Of each run, parts that have not ended in this layer: whoever ends the last one joins them.
  std::unique_ptr<std::atomic<uint32_t>[]> left_;
  size_t left_room_ = 0;
  AlignedArray<float> partials_;
  size_t partials_room_ = 0;
};

}  // namespace streamserve
