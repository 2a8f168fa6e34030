// What the operations of a step come to, for its profile.
#include <algorithm>

#include "step/forward.h"

namespace streamserve {
namespace {

bool multiplies_integers(Packing packing) {
  return packing != Packing::kFloat32 && packing != Packing::kFloat16 && packing != Packing::kBFloat16;
}

uint64_t floats(uint64_t count) { return count * sizeof(float); }

}  // namespace

void Forward::profile_steps() {
  profiling_ = true;
  profile_ = {};
}

// What finish() computes after a region; the region's own operation where that is nothing to speak of.
Operation Forward::finishing(uint32_t region) const {
  const auto [operation, layer, pass] = program_[region];
  const bool feeds = operation == Operation::kDown || operation == Operation::kExpertsDown;
  if (feeds && layer + 1 == config_.layers) return passes_.empty() ? operation : Operation::kPackHeadInput;
  if (operation == Operation::kSample && pass + 1 < passes_.size()) return Operation::kPackHeadInput;
  if (!inline_tokens_) return operation;
  switch (operation) {
    case Operation::kEmbed:
    case Operation::kDown:
    case Operation::kExpertsDown:
      return Operation::kPackAttentionInput;
    case Operation::kProject:
      return Operation::kRotate;
    case Operation::kAttend:
      return Operation::kPackAttended;
    case Operation::kAttentionOut:
      return Operation::kPackFeedInput;
    case Operation::kGateUp:
      return Operation::kPackGated;
    case Operation::kRoute:
      return Operation::kPackExperts;
    case Operation::kExpertsGateUp:
      return Operation::kPackExpertsGated;
    default:
      return operation;
  }
}

// Called between regions: which experts were chosen in a layer is forgotten in the next.
void Forward::note_work(uint32_t region) {
  const auto [operation, layer, pass] = program_[region];
  const auto note = [&](Operation done, uint32_t at_layer, uint32_t at_pass) {
    OperationCost& cost = profile_[static_cast<size_t>(done)];
    ++cost.regions;
    cost.work += work_of(done, at_layer, at_pass);
  };
  note(operation, layer, pass);
  const Operation then = finishing(region);
  if (then == operation) return;
  // Each layer but the first has its input packed as the one before ends.
  const bool next_layer = then == Operation::kPackAttentionInput && operation != Operation::kEmbed;
  note(then, layer + (next_layer ? 1 : 0), operation == Operation::kSample ? pass + 1 : 0);
}

StepProfile Forward::profile(const Task& task) const {
  StepProfile profile = profile_;
  for (uint32_t r = 0; r < program_.size(); ++r) {
    const RegionTime& time = task.region_time(r);
    profile[static_cast<size_t>(program_[r].operation)].ns += time.chunks_ns;
    profile[static_cast<size_t>(finishing(r))].ns += time.finish_ns;
  }
  return profile;
}

Work Forward::work_of(Operation operation, uint32_t layer, uint32_t pass) const {
  const LayerWeights& w = model_.weights().layers()[layer];
  const uint64_t tokens = batch_->tokens;
  const uint64_t slots = experts_.slots();
  const uint64_t width = config_.embedding;
  const uint64_t feed = config_.feed_forward;
  switch (operation) {
    case Operation::kEmbed: {
      Work work;
      work.weight_bytes = tokens * model_.weights().embedding_row_bytes();
      work.activation_bytes = floats(tokens * (width + 2 * model_.rotation_size()));
      return work;
    }
    case Operation::kRotate:
    case Operation::kAttend:
      return attention_work(operation, layer);
    case Operation::kProject:
    case Operation::kAttentionOut:
    case Operation::kGateUp:
    case Operation::kDown:
    case Operation::kRoute: {
      Work work;
      const Matrices all = matrices(operation, layer);
      for (uint32_t m = 0; m < all.count; ++m) {
        const Matrices::One& one = all.members[m];
        work += product_work(*one.weights, tokens, (one.refine ? 2 : 1), all.accumulate);
      }
      return work;
    }
    case Operation::kPackAttentionInput:
    case Operation::kPackFeedInput:
      return pack_work(matrices(operation, layer), tokens, width);
    case Operation::kPackAttended:
      return pack_work(matrices(operation, layer), tokens, uint64_t{config_.heads} * config_.head_dim);
    case Operation::kPackGated:
      return pack_work(matrices(operation, layer), tokens, 2 * feed);
    case Operation::kChoose: {
      Work work;
      work.activation_bytes = floats(tokens * config_.experts);
      return work;
    }
    case Operation::kPackExperts:
    case Operation::kPackExpertsGated: {
      const bool gated = operation == Operation::kPackExpertsGated;
      const PackedMatrix& next = gated ? w.experts.front().down : w.experts.front().gate;
      Work work;
      work.activation_bytes =
          floats(slots * (gated ? 2 * feed : width)) +
          kernels_.activation_bytes(next.packing, static_cast<uint32_t>(slots), next.cols);
      return work;
    }
    case Operation::kExpertsGateUp:
    case Operation::kExpertsDown: {
      Work work;
      experts_.each_chosen([&](uint32_t expert, uint32_t count) {
        const ExpertWeights& e = w.experts[expert];
        if (operation == Operation::kExpertsDown) {
          work += product_work(e.down, count, 1, false);
        } else {
          work += product_work(e.gate, count, 1, false);
          work += product_work(e.up, count, 1, false);
        }
      });
      return work;
    }
    case Operation::kPackHeadInput: {
      const PackedMatrix& head = model_.weights().head();
      Work work;
      work.activation_bytes = floats(passes_[pass].logits * width) +
                              kernels_.activation_bytes(head.packing, passes_[pass].logits, head.cols);
      return work;
    }
    case Operation::kHead:
      return product_work(model_.weights().head(), passes_[pass].logits, 1, false);
    case Operation::kSample: {
      // A draft that fails ends its row's draws.
      uint64_t positions = 0;
      for (uint32_t r = passes_[pass].first_row; r < passes_[pass].first_row + passes_[pass].rows; ++r) {
        const BatchRow& row = batch_->rows[sampled_rows_[r]];
        positions += row.scores ? row.logits : row.draws.size();
      }
      Work work;
      work.activation_bytes = floats(positions * config_.vocabulary);
      return work;
    }
  }
  return {};
}

// A matrix times `tokens` rows, `times` over.
Work Forward::product_work(const PackedMatrix& matrix, uint64_t tokens, uint32_t times,
                           bool accumulate) const {
  const uint64_t macs = tokens * matrix.rows * matrix.cols * times;
  const uint64_t out = floats(tokens * matrix.rows);
  Work work;
  work.weight_bytes = kernels_.packed_bytes(matrix.packing, matrix.rows, matrix.cols);
  work.activation_bytes =
      times * kernels_.activation_bytes(matrix.packing, static_cast<uint32_t>(tokens), matrix.cols) +
      (accumulate ? 2 : 1) * out;
  (multiplies_integers(matrix.packing) ? work.integer_macs : work.float_macs) = macs;
  return work;
}

// Rows of `width` floats read, and packed once for each packing among the matrices that follow.
Work Forward::pack_work(const Matrices& next, uint64_t tokens, uint64_t width) const {
  Work work;
  work.activation_bytes = floats(tokens * width);
  for (uint32_t m = 0; m < next.count; ++m) {
    const PackedMatrix& matrix = *next.members[m].weights;
    bool packed = false;
    for (uint32_t earlier = 0; earlier < m; ++earlier) {
      packed = packed || next.members[earlier].weights->packing == matrix.packing;
    }
    // What quantisation loses is packed beside it.
    const uint64_t panels = (packed ? 0 : 1) + (next.members[m].refine ? 1 : 0);
    work.activation_bytes +=
        panels * kernels_.activation_bytes(matrix.packing, static_cast<uint32_t>(tokens), matrix.cols);
  }
  return work;
}

Work Forward::attention_work(Operation operation, uint32_t layer) const {
  // Keys and values of a token in one layer.
  const KvLayout& layout = pool_.layout();
  const uint64_t kv_token =
      layout.block_words() * sizeof(uint16_t) / (uint64_t{layout.layers} * layout.block_tokens);
  const uint64_t queries = uint64_t{config_.heads} * config_.head_dim;
  Work work;
  if (operation == Operation::kRotate) {
    const uint64_t keys = uint64_t{config_.kv_heads} * config_.head_dim;
    work.kv_bytes = batch_->tokens * kv_token;
    work.activation_bytes = floats(batch_->tokens * (2 * (queries + keys) + keys));
    return work;
  }
  const uint64_t window = config_.kinds[layer].window;
  for (const BatchRow& row : batch_->rows) {
    const uint64_t end = row.base + row.tokens;
    const uint64_t seen = window == 0 ? end : std::min(end, window + row.tokens - 1);
    work.kv_bytes += seen * kv_token;
    uint64_t pairs = 0;
    for (uint64_t context = row.base + 1; context <= end; ++context) {
      pairs += window == 0 ? context : std::min(context, window);
    }
    // A dot product with the key and a sum over the value.
    work.float_macs += 2 * pairs * queries;
  }
  work.activation_bytes = floats(batch_->tokens * 2 * queries);
  return work;
}

}  // namespace streamserve
