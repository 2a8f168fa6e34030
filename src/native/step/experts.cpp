#include "step/experts.h"

#include <algorithm>
#include <cmath>

#include "step/units.h"

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
  shares_.reserve(experts_);
  next_slot_.resize(experts_);
  rows_ = aligned_array<float>(slots * width_);
  feeds_ = aligned_array<float>(slots * 2 * feed_);
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
  shares_.clear();
  uint32_t first = 0;
  size_t panel = 0;
  for (uint32_t e = 0; e < experts_; ++e) {
    const uint32_t count = next_slot_[e];
    next_slot_[e] = first;
    if (count == 0) continue;
    shares_.push_back({e, first, count, panel});
    first += count;
    panel += aligned(count * slot_bytes_);
  }
  for (uint32_t i = 0; i < slots(); ++i) {
    slot_of_[i] = next_slot_[chosen_[i]]++;
    token_of_[slot_of_[i]] = i / used_;
  }
}

template <typename Fill>
void Experts::each_share(uint32_t begin, uint32_t end, Fill fill) const {
  for (const Share& share : shares_) {
    const uint32_t from = std::max(begin, share.first);
    const uint32_t to = std::min(end, share.first + share.count);
    if (from < to) fill(share, from - share.first, to - share.first);
  }
}

template <typename ProductOf>
void Experts::multiply(uint32_t parts, uint32_t chunk, uint32_t chunks, ProductOf product) const {
  uint64_t units = 0;
  for (const Share& share : shares_) {
    for (uint32_t part = 0; part < parts; ++part) units += units_of(*product(share, part).matrix);
  }
  const uint64_t begin = units * chunk / chunks;
  const uint64_t end = units * (chunk + 1) / chunks;
  uint64_t first = 0;
  for (const Share& share : shares_) {
    for (uint32_t part = 0; part < parts; ++part) {
      const Product one = product(share, part);
      const uint64_t last = first + units_of(*one.matrix);
      const TileRange tiles = tiles_within(*one.matrix, first, begin, end);
      if (tiles.begin < tiles.end) {
        const Activations in{share.count, one.matrix->cols, one.matrix->packing, one.input};
        kernels_.matmul(*one.matrix, in, tiles.begin, tiles.end, one.out, one.stride, false);
      }
      first = last;
    }
  }
}

void Experts::pack_input(const LayerWeights& layer, const float* rows, uint32_t begin, uint32_t end) {
  for (uint32_t slot = begin; slot < end; ++slot) {
    std::copy_n(rows + size_t{token_of_[slot]} * width_, width_, rows_.get() + size_t{slot} * width_);
  }
  each_share(begin, end, [&](const Share& share, uint32_t first, uint32_t last) {
    const PackedMatrix& matrix = layer.experts[share.expert].gate;
    const Activations out{share.count, width_, matrix.packing, inputs_.get() + share.panel};
    kernels_.pack_activations(rows_.get() + size_t{share.first + first} * width_, width_,
                              tokens_of(out, first, last), out);
  });
}

void Experts::gate_up(const LayerWeights& layer, uint32_t chunk, uint32_t chunks) {
  multiply(2, chunk, chunks, [&](const Share& share, uint32_t part) {
    const ExpertWeights& expert = layer.experts[share.expert];
    return Product{part == 0 ? &expert.gate : &expert.up, inputs_.get() + share.panel,
                   feeds_.get() + size_t{share.first} * 2 * feed_ + size_t{part} * feed_, size_t{2} * feed_};
  });
}

void Experts::pack_gated(const LayerWeights& layer, uint32_t begin, uint32_t end) {
  const auto fill = gate_ == Gate::kSilu ? kernels_.silu_pack_activations : kernels_.gelu_pack_activations;
  each_share(begin, end, [&](const Share& share, uint32_t first, uint32_t last) {
    const PackedMatrix& matrix = layer.experts[share.expert].down;
    const Activations out{share.count, feed_, matrix.packing, gated_.get() + share.panel};
    const float* gates = feeds_.get() + size_t{share.first + first} * 2 * feed_;
    fill(gates, gates + feed_, size_t{2} * feed_, tokens_of(out, first, last), out);
  });
}

void Experts::down(const LayerWeights& layer, uint32_t chunk, uint32_t chunks) {
  multiply(1, chunk, chunks, [&](const Share& share, uint32_t) {
    return Product{&layer.experts[share.expert].down, gated_.get() + share.panel,
                   results_.get() + size_t{share.first} * width_, width_};
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
