#include "step/experts.h"

#include <algorithm>
#include <cmath>

#include "step/gated.h"

namespace streamserve {
namespace {

size_t aligned(size_t bytes) { return (bytes + kKernelAlignment - 1) / kKernelAlignment * kKernelAlignment; }

}  // namespace

Experts::Experts(const Model& model, uint32_t tokens)
    : kernels_(model.kernels()),
      width_(model.config().embedding),
      feed_(model.config().feed_forward),
      experts_(model.config().experts),
      used_(model.config().experts_used),
      gate_(model.config().family->gate) {
  if (experts_ == 0) return;
  for (const LayerWeights& layer : model.weights().layers()) {
    for (const ExpertWeights& expert : layer.experts) {
      slot_bytes_ = std::max({slot_bytes_, kernels_.activation_bytes(expert.gate.packing, 1, width_),
                              kernels_.activation_bytes(expert.down.packing, 1, feed_)});
    }
  }
  const size_t slots = size_t{tokens} * used_;
  const size_t panels = slots * slot_bytes_ + experts_ * kKernelAlignment;
  scores_ = aligned_array<float>(size_t{tokens} * experts_);
  chosen_.resize(slots);
  weights_.resize(slots);
  slot_of_.resize(slots);
  token_of_.resize(slots);
  assignments_.reserve(experts_);
  next_slot_.resize(experts_);
  rows_ = aligned_array<float>(slots * width_);
  results_ = aligned_array<float>(slots * width_);
  inputs_ = aligned_array<uint8_t>(panels);
  gated_ = aligned_array<uint8_t>(panels);
}

void Experts::begin(uint32_t tokens) { tokens_ = tokens; }

// The likeliest by softmax over all experts, weighted by what softmax gives them among themselves. Of equal
// scores the first expert wins.
void Experts::choose(uint32_t begin, uint32_t end) {
  for (uint32_t t = begin; t < end; ++t) {
    const float* scores = scores_.get() + size_t{t} * experts_;
    uint32_t* chosen = chosen_.data() + size_t{t} * used_;
    float* weights = weights_.data() + size_t{t} * used_;
    for (uint32_t rank = 0; rank < used_; ++rank) {
      uint32_t best = experts_;
      for (uint32_t e = 0; e < experts_; ++e) {
        if (std::find(chosen, chosen + rank, e) != chosen + rank) continue;
        if (best == experts_ || scores[e] > scores[best]) best = e;
      }
      chosen[rank] = best;
    }
    double total = 0;
    for (uint32_t rank = 0; rank < used_; ++rank) {
      total += std::exp(static_cast<double>(scores[chosen[rank]]) - scores[chosen[0]]);
    }
    for (uint32_t rank = 0; rank < used_; ++rank) {
      const double share = std::exp(static_cast<double>(scores[chosen[rank]]) - scores[chosen[0]]);
      weights[rank] = static_cast<float>(share / total);
    }
  }
}

void Experts::sort() {
  std::fill(next_slot_.begin(), next_slot_.end(), 0);
  for (uint32_t i = 0; i < slots(); ++i) ++next_slot_[chosen_[i]];
  assignments_.clear();
  uint32_t first = 0;
  size_t panel = 0;
  for (uint32_t e = 0; e < experts_; ++e) {
    const uint32_t count = next_slot_[e];
    next_slot_[e] = first;
    if (count == 0) continue;
    assignments_.push_back({e, first, count, panel});
    first += count;
    panel += aligned(count * slot_bytes_);
  }
  for (uint32_t i = 0; i < slots(); ++i) {
    slot_of_[i] = next_slot_[chosen_[i]]++;
    token_of_[slot_of_[i]] = i / used_;
  }
}

template <typename Fill>
void Experts::each_assignment(uint32_t begin, uint32_t end, Fill fill) const {
  for (const Assignment& one : assignments_) {
    const uint32_t from = std::max(begin, one.first);
    const uint32_t to = std::min(end, one.first + one.count);
    if (from < to) fill(one, from - one.first, to - one.first);
  }
}

template <typename MatrixOf, typename Multiply>
void Experts::each_unit(const LayerWeights& layer, Share share, MatrixOf matrix_of, Multiply multiply) const {
  uint32_t units = 0;
  for (const Assignment& one : assignments_) units += units_of(matrix_of(layer.experts[one.expert]));
  const uint32_t begin = share.begin(units);
  const uint32_t end = share.end(units);
  uint32_t first = 0;
  for (const Assignment& one : assignments_) {
    const uint32_t last = first + units_of(matrix_of(layer.experts[one.expert]));
    const uint32_t from = std::clamp(begin, first, last);
    const uint32_t to = std::clamp(end, first, last);
    if (from < to) multiply(one, from - first, to - first);
    first = last;
  }
}

void Experts::pack_input(const LayerWeights& layer, const float* rows, uint32_t begin, uint32_t end) {
  for (uint32_t slot = begin; slot < end; ++slot) {
    std::copy_n(rows + size_t{token_of_[slot]} * width_, width_, rows_.get() + size_t{slot} * width_);
  }
  each_assignment(begin, end, [&](const Assignment& one, uint32_t first, uint32_t last) {
    const PackedMatrix& matrix = layer.experts[one.expert].gate;
    const Activations out{one.count, width_, matrix.packing, inputs_.get() + one.panel};
    kernels_.pack_activations(rows_.get() + size_t{one.first + first} * width_, width_,
                              tokens_of(out, first, last), out);
  });
}

void Experts::gate_up(const LayerWeights& layer, Share share, Workspace& work) const {
  const auto gate_of = [](const ExpertWeights& expert) -> const PackedMatrix& { return expert.gate; };
  each_unit(layer, share, gate_of, [&](const Assignment& one, uint32_t begin, uint32_t end) {
    const ExpertWeights& expert = layer.experts[one.expert];
    uint8_t* const input = inputs_.get() + one.panel;
    const GatedProduct product{&expert.gate,
                               &expert.up,
                               nullptr,
                               nullptr,
                               {one.count, width_, expert.gate.packing, input},
                               {one.count, width_, expert.up.packing, input},
                               {one.count, feed_, expert.down.packing, gated_.get() + one.panel},
                               gate_,
                               Operation::kExpertsGateUp,
                               Operation::kPackExpertsGated};
    multiply_gated(kernels_, product, begin, end, work);
  });
}

void Experts::down(const LayerWeights& layer, Share share) const {
  const auto down_of = [](const ExpertWeights& expert) -> const PackedMatrix& { return expert.down; };
  each_unit(layer, share, down_of, [&](const Assignment& one, uint32_t begin, uint32_t end) {
    const PackedMatrix& matrix = layer.experts[one.expert].down;
    const Activations in{one.count, feed_, matrix.packing, gated_.get() + one.panel};
    const TileRange tiles = tiles_of_units(matrix, begin, end);
    kernels_.matmul(matrix, in, tiles.begin, tiles.end, results_.get() + size_t{one.first} * width_, width_,
                    false);
  });
}

void Experts::sum(uint32_t token, float* out) const {
  std::fill_n(out, width_, 0.0F);
  for (uint32_t rank = 0; rank < used_; ++rank) {
    const size_t place = size_t{token} * used_ + rank;
    const float* result = results_.get() + size_t{slot_of_[place]} * width_;
    for (uint32_t k = 0; k < width_; ++k) out[k] += weights_[place] * result[k];
  }
}

}  // namespace streamserve
