#include "step/attention.h"

#include <algorithm>

#include "step/share.h"

namespace streamserve {
namespace {

// Query positions of a run: they share each load of K and V.
constexpr uint32_t kPositionsARun = 16;

}  // namespace

Attention::Attention(const Model& model, KvPool& pool, const StepBuffers& buffers)
    : config_(model.config()), kernels_(model.kernels()), pool_(pool), buffers_(buffers) {}

void Attention::plan(const Batch& batch, uint32_t cores, bool all) {
  batch_ = &batch;
  all_ = all;
  cores_ = cores;
  list_runs(cores);
  cut_runs(cores);
}

void Attention::list_runs(uint32_t cores) {
  runs_.clear();
  const uint32_t group = config_.heads / config_.kv_heads;
  uint64_t segments = 0;
  for (const BatchRow& row : batch_->rows) {
    segments += uint64_t{divide_up(row.tokens, kPositionsARun)} * attention_segments(row.base + row.tokens);
  }
  // Heads that share K and V are computed together where that leaves chunks enough for all cores.
  const uint32_t heads = segments * config_.kv_heads >= 2 * cores ? group : 1;
  for (uint32_t r = 0; r < batch_->rows.size(); ++r) {
    const uint32_t tokens = batch_->rows[r].tokens;
    for (uint32_t first = 0; first < tokens; first += kPositionsARun) {
      const uint32_t positions = std::min(kPositionsARun, tokens - first);
      for (uint32_t kv = 0; kv < config_.kv_heads; ++kv) {
        for (uint32_t h = 0; h < group; h += heads) {
          runs_.push_back({r, first, positions, kv, h, heads, 1, 0});
        }
      }
    }
  }
}

// A run that is more than its share of the step's attention is shared out.
void Attention::cut_runs(uint32_t cores) {
  uint64_t total = 0;
  for (const Run& run : runs_) total += cost_of(run);
  const uint64_t share = total / (kChunksACore * cores) + 1;
  chunks_.clear();
  size_t floats = 0;
  for (uint32_t r = 0; r < runs_.size(); ++r) {
    Run& run = runs_[r];
    const uint32_t segments = segments_of(run);
    run.parts = static_cast<uint32_t>(std::min<uint64_t>(segments, (cost_of(run) + share - 1) / share));
    for (uint32_t part = 0; part < run.parts; ++part) {
      chunks_.push_back({r, static_cast<uint32_t>(uint64_t{segments} * part / run.parts),
                         static_cast<uint32_t>(uint64_t{segments} * (part + 1) / run.parts)});
    }
    if (run.parts == 1) continue;
    run.partials = floats;
    floats += size_t{segments} * run.positions * run.heads * attention_partial_floats(config_.head_dim);
  }
  if (floats > partials_room_) {
    partials_room_ = 0;
    partials_.reset();
    // By half again, so that a growing context does not move at every step.
    partials_ = aligned_array<float>(floats + floats / 2);
    partials_room_ = floats + floats / 2;
  }
  if (runs_.size() > left_room_) {
    left_ = std::make_unique<std::atomic<uint32_t>[]>(runs_.size());
    left_room_ = runs_.size();
  }
  for (size_t r = 0; r < runs_.size(); ++r) left_[r].store(runs_[r].parts, std::memory_order_relaxed);
}

uint32_t Attention::segments_of(const Run& run) const {
  return attention_segments(batch_->rows[run.row].base + run.first + run.positions);
}

// Each token of the context costs its scores, and as much as one more for fetching it.
uint64_t Attention::cost_of(const Run& run) const {
  const uint64_t context = batch_->rows[run.row].base + run.first + run.positions;
  return context * (uint64_t{run.positions} * run.heads + 1);
}

uint32_t Attention::first_computed(uint32_t layer, const BatchRow& row) const {
  if (all_ || layer + 1 < config_.layers) return 0;
  if (row.logits == 0) return row.tokens;
  return (row.tokens - row.logits) / kPositionsARun * kPositionsARun;
}

AttentionTask Attention::task_of(uint32_t layer, const Run& run) const {
  const BatchRow& row = batch_->rows[run.row];
  const KvLayout& layout = pool_.layout();
  const size_t token = size_t{row.first_token} + run.first;
  const size_t head = size_t{run.kv_head} * (config_.heads / config_.kv_heads) + run.first_head;
  AttentionTask task;
  task.queries = buffers_.projected.get() + token * buffers_.query_stride + head * config_.head_dim;
  task.query_stride = buffers_.query_stride;
  task.out = buffers_.attended.get() + token * buffers_.attended_stride + head * config_.head_dim;
  task.out_stride = buffers_.attended_stride;
  task.positions = run.positions;
  task.heads = run.heads;
  task.context = row.base + run.first + 1;
  task.blocks = row.sequence->addresses.data();
  task.key_offset = layout.key_offset(layer, run.kv_head);
  task.value_offset = layout.value_offset(layer, run.kv_head);
  task.window = config_.kinds[layer].window;
  task.soft_cap = config_.attention_cap;
  task.format = layout.format;
  return task;
}

// Chunks are claimed in order, and threads mostly take turns.
KeysOfBlocks Attention::keys_after(uint32_t layer, uint32_t chunk) const {
  if (chunk + cores_ >= chunks_.size()) return {};
  const Chunk& next = chunks_[chunk + cores_];
  const Run& run = runs_[next.run];
  const BatchRow& row = batch_->rows[run.row];
  const uint32_t tokens = row.base + run.first + run.positions - next.begin * kAttentionSegment;
  return {row.sequence->addresses.data() + next.begin * (kAttentionSegment / kKvBlockTokens),
          pool_.layout().key_offset(layer, run.kv_head),
          divide_up(std::min(tokens, kAttentionSegment), kKvBlockTokens)};
}

void Attention::run(uint32_t layer, uint32_t chunk, ThreadScratch scratch) {
  const Chunk& part = chunks_[chunk];
  const Run& run = runs_[part.run];
  if (run.first < first_computed(layer, batch_->rows[run.row])) return;
  AttentionTask task = task_of(layer, run);
  task.next = keys_after(layer, chunk);
  float* const floats = scratch.floats.data();
  if (run.parts == 1) {
    return kernels_.attention(task, config_.head_dim, config_.attention_scale, floats);
  }
  // A window leaves the first segments out.
  const uint32_t oldest = task.window > 0 && task.context > task.window ? task.context - task.window : 0;
  const uint32_t first = oldest / kAttentionSegment;
  const uint32_t begin = std::max(part.begin, first);
  float* const partials = partials_.get() + run.partials;
  if (begin < part.end) {
    const size_t segment = size_t{run.positions} * run.heads * attention_partial_floats(config_.head_dim);
    kernels_.attention_partials(task, config_.head_dim, config_.attention_scale, begin, part.end,
                                partials + (begin - first) * segment, floats);
  }
  if (left_[part.run].fetch_sub(1, std::memory_order_acq_rel) > 1) return;
  left_[part.run].store(run.parts, std::memory_order_relaxed);
  kernels_.attention_join(task, config_.head_dim, partials, segments_of(run) - first, floats);
}

}  // namespace streamserve
