// What the operations of a step come to, for its profile.
#include <algorithm>
#include <numeric>

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
  spent_.reserve(most_regions());
}

// The operations of a region, with the layer that each belongs to.
template <typename Visit>
void Forward::each_operation(uint32_t region, Visit visit) const {
  const auto [stage, layer, pass] = program_[region];
  const auto attention_input = [&](uint32_t l) {
    visit(Operation::kPackAttentionInput, l);
    visit(Operation::kProject, l);
    visit(Operation::kRotate, l);
  };
  const auto attention_out = [&](uint32_t l) {
    visit(Operation::kPackAttended, l);
    visit(Operation::kAttentionOut, l);
    visit(Operation::kPackFeedInput, l);
  };
  const auto alone = [&](Operation operation) {
    if (packs_alone_) visit(operation, layer);
  };
  switch (stage) {
    case Stage::kEmbed:
      return visit(Operation::kEmbed, layer);
    case Stage::kPackAttentionInput:
      return visit(Operation::kPackAttentionInput, layer);
    case Stage::kPackAttended:
      return visit(Operation::kPackAttended, layer);
    case Stage::kPackFeedInput:
      return visit(Operation::kPackFeedInput, layer);
    case Stage::kJoinAttention:
    case Stage::kJoinFeed:
      return;
    case Stage::kChoose:
      return visit(Operation::kChoose, layer);
    case Stage::kProject:
      alone(Operation::kPackAttentionInput);
      visit(Operation::kProject, layer);
      return visit(Operation::kRotate, layer);
    case Stage::kAttentionOut:
      alone(Operation::kPackAttended);
      return visit(Operation::kAttentionOut, layer);
    case Stage::kGateUp:
      alone(Operation::kPackFeedInput);
      visit(Operation::kGateUp, layer);
      return visit(Operation::kPackGated, layer);
    case Stage::kDown:
      return visit(Operation::kDown, layer);
    case Stage::kRoute:
      alone(Operation::kPackFeedInput);
      return visit(Operation::kRoute, layer);
    case Stage::kAttend:
      return visit(Operation::kAttend, layer);
    case Stage::kPackExperts:
      return visit(Operation::kPackExperts, layer);
    case Stage::kExpertsGateUp:
      visit(Operation::kExpertsGateUp, layer);
      return visit(Operation::kPackExpertsGated, layer);
    case Stage::kExpertsDown:
      return visit(Operation::kExpertsDown, layer);
    case Stage::kBlocks:
      if (layer == 0) visit(Operation::kEmbed, layer);
      if (layer > 0 && config_.experts == 0) {
        attention_out(layer - 1);
        visit(Operation::kGateUp, layer - 1);
        visit(Operation::kPackGated, layer - 1);
        visit(Operation::kDown, layer - 1);
      }
      if (layer < config_.layers) attention_input(layer);
      return;
    case Stage::kRouteBlocks:
      attention_out(layer);
      visit(Operation::kRoute, layer);
      return visit(Operation::kChoose, layer);
    case Stage::kHead:
      return visit(Operation::kHead, layer);
    case Stage::kSample:
      return visit(Operation::kSample, layer);
  }
}

// What finish() computes after a region.
Operation Forward::finishing(uint32_t region) const {
  if (region + 1 < program_.size() && program_[region + 1].stage == Stage::kHead) {
    return Operation::kPackHeadInput;
  }
  Operation last = Operation::kChoose;
  each_operation(region, [&](Operation operation, uint32_t) { last = operation; });
  return last;
}

// Called between regions: which experts were chosen in a layer is forgotten in the next.
void Forward::note(uint32_t region) {
  const auto count = [&](Operation operation, uint32_t layer, uint32_t pass) {
    OperationCost& cost = profile_[static_cast<size_t>(operation)];
    ++cost.regions;
    cost.work += work_of(operation, layer, pass);
  };
  each_operation(
      region, [&](Operation operation, uint32_t layer) { count(operation, layer, program_[region].pass); });
  if (finishing(region) == Operation::kPackHeadInput) {
    count(Operation::kPackHeadInput, 0, program_[region + 1].pass);
  }
  for (const std::unique_ptr<Workspace>& work : workspaces_) work->clock.take(spent_[region]);
}

// A region's time is its operations', as its threads spent theirs.
StepProfile Forward::profile(const Task& task) const {
  StepProfile profile = profile_;
  for (uint32_t r = 0; r < program_.size(); ++r) {
    const RegionTime& time = task.region_time(r);
    const OperationClock::Times& spent = spent_[r];
    const int64_t total = std::accumulate(spent.begin(), spent.end(), int64_t{0});
    const auto finishing_at = static_cast<size_t>(finishing(r));
    int64_t left = time.chunks_ns;
    for (size_t i = 0; i < kOperations && total > 0; ++i) {
      const auto share = static_cast<int64_t>(static_cast<double>(time.chunks_ns) *
                                              static_cast<double>(spent[i]) / static_cast<double>(total));
      profile[i].ns += share;
      left -= share;
    }
    // And what rounding left.
    profile[finishing_at].ns += left + time.finish_ns;
  }
  return profile;
}

Work Forward::work_of(Operation operation, uint32_t layer, uint32_t pass) const {
  const LayerWeights& w = model_.weights().layers()[layer];
  const bool after_attention = operation != Operation::kPackAttentionInput &&
                               operation != Operation::kProject && operation != Operation::kEmbed;
  const uint64_t tokens = after_attention && layer + 1 == config_.layers ? last_tokens_ : batch_->tokens;
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
    case Operation::kProject: {
      Work work = product_work(w.query.weights, tokens, 1, false);
      work += product_work(w.key.weights, tokens, 1, false);
      work += product_work(w.value.weights, tokens, layers_.refines(layer) ? 2 : 1, false);
      return work;
    }
    case Operation::kAttentionOut:
      return product_work(w.attention_out.weights, tokens, 1, !model_.weights().branches());
    case Operation::kGateUp: {
      Work work = product_work(w.gate.weights, tokens, 1, false);
      work += product_work(w.up.weights, tokens, 1, false);
      return work;
    }
    case Operation::kDown:
      return product_work(w.down.weights, tokens, 1, !model_.weights().branches());
    case Operation::kRoute:
      return product_work(w.router, tokens, 1, false);
    case Operation::kPackAttentionInput:
      return pack_work(layers_.attention_readers(layer), layers_.refines(layer), tokens, width);
    case Operation::kPackFeedInput:
      return pack_work(layers_.feed_readers(layer), false, tokens, width);
    case Operation::kPackAttended:
      return pack_work(Readers(w.attention_out.weights), false, tokens,
                       uint64_t{config_.heads} * config_.head_dim);
    case Operation::kPackGated:
      return pack_work(Readers(w.down.weights), false, tokens, 2 * feed);
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
      work.activation_bytes = floats(logits_.positions(pass) * width) +
                              kernels_.activation_bytes(head.packing, logits_.positions(pass), head.cols);
      return work;
    }
    case Operation::kHead:
      return product_work(model_.weights().head(), logits_.positions(pass), 1, false);
    case Operation::kSample: {
      Work work;
      work.activation_bytes = floats(logits_.positions_drawn(pass) * config_.vocabulary);
      return work;
    }
  }
  return {};
}

// A matrix times `tokens` rows, `times` over.
Work Forward::product_work(const PackedMatrix& matrix, uint64_t tokens, uint32_t times,
                           bool accumulate) const {
  if (tokens == 0) return {};
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

// Rows of `width` floats read, and packed once for each packing among their readers; and, for the last of
// these, `rest`: what quantisation loses.
Work Forward::pack_work(const Readers& readers, bool rest, uint64_t tokens, uint64_t width) const {
  Work work;
  work.activation_bytes = floats(tokens * width);
  const auto count = [&](const PackedMatrix& reader) {
    work.activation_bytes +=
        kernels_.activation_bytes(reader.packing, static_cast<uint32_t>(tokens), reader.cols);
  };
  for (uint32_t reader = 0; reader < readers.all().size(); ++reader) {
    if (readers.panel_of(reader) == reader) count(readers[reader]);
  }
  if (rest) count(*readers.all().back());
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
    const uint32_t first = attention_.first_computed(layer, row);
    const uint32_t tokens = row.tokens - first;
    if (tokens == 0) continue;
    const uint64_t end = row.base + row.tokens;
    const uint64_t seen = window == 0 ? end : std::min(end, window + tokens - 1);
    work.kv_bytes += seen * kv_token;
    work.activation_bytes += floats(tokens * 2 * queries);
    uint64_t pairs = 0;
    for (uint64_t context = row.base + first + 1; context <= end; ++context) {
      pairs += window == 0 ? context : std::min(context, window);
    }
    // A dot product with the key and a sum over the value.
    work.float_macs += 2 * pairs * queries;
  }
  return work;
}

}  // namespace streamserve
