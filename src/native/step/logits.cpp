#include "step/logits.h"

#include <algorithm>
#include <new>
#include <optional>
#include <span>
#include <utility>

#include "sampling/logits.h"

namespace streamserve {

Logits::Logits(const Model& model) : model_(model), config_(model.config()), kernels_(model.kernels()) {}

// A row's logits lie in one pass, since each of its draws must know the ones before.
void Logits::plan(Batch& batch, uint32_t threads) {
  batch_ = &batch;
  if (samplers_.size() <= threads) samplers_.resize(threads + 1);
  sampled_rows_.clear();
  passes_.clear();
  uint32_t most = 0;
  for (uint32_t r = 0; r < batch.rows.size(); ++r) {
    const BatchRow& row = batch.rows[r];
    if (row.logits == 0) continue;
    if (passes_.empty() || passes_.back().logits + row.logits > kPass) {
      passes_.push_back({static_cast<uint32_t>(sampled_rows_.size()), 0, row.first_logits, 0});
    }
    sampled_rows_.push_back(r);
    ++passes_.back().rows;
    passes_.back().logits += row.logits;
    most = std::max(most, passes_.back().logits);
  }
  reserve(most);
}

void Logits::reserve(uint32_t rows) {
  if (rows <= room_) return;
  // By half again, so that a growing batch does not move at every step. The old ones go first: nothing in
  // them is kept, and both together would be the most that a step ever takes.
  const uint32_t room = std::max(rows, room_ + room_ / 2);
  room_ = 0;
  gathered_.reset();
  logits_.reset();
  peaks_.reset();
  panel_.reset();
  gathered_ = aligned_array<float>(size_t{room} * config_.embedding);
  logits_ = aligned_array<float>(size_t{room} * config_.vocabulary);
  peaks_ = aligned_array<float>(room * logit_blocks(config_.vocabulary));
  panel_ = aligned_array<uint8_t>(
      kernels_.activation_bytes(model_.weights().head().packing, room, config_.embedding));
  room_ = room;
}

void Logits::gather(uint32_t pass, const float* hidden) {
  const auto& [first_row, rows, first, logits] = passes_[pass];
  const size_t width = config_.embedding;
  float* out = gathered_.get();
  for (uint32_t r = first_row; r < first_row + rows; ++r) {
    const BatchRow& row = batch_->rows[sampled_rows_[r]];
    const uint32_t from = row.first_token + row.tokens - row.logits;
    out = std::copy_n(hidden + from * width, row.logits * width, out);
  }
  from_ = first;
  const PackedMatrix& head = model_.weights().head();
  const Activations packed{logits, head.cols, head.packing, panel_.get()};
  kernels_.norm_pack_activations(gathered_.get(), width, model_.weights().output_norm(), config_.norm_epsilon,
                                 0, logits, packed);
}

void Logits::multiply(uint32_t pass, Share share) {
  const uint32_t positions = passes_[pass].logits;
  const PackedMatrix& head = model_.weights().head();
  const Activations in{positions, head.cols, head.packing, panel_.get()};
  const TileRange tiles = tiles_of_units(head, share.begin(parts()), share.end(parts()));
  kernels_.matmul(head, in, tiles.begin, tiles.end, logits_.get(), config_.vocabulary, false);
  finish(pass, tiles.begin * kTileRows, std::min(tiles.end * kTileRows, config_.vocabulary));
}

// What remains to do for ids [first, last) while they are in cache.
void Logits::finish(uint32_t pass, uint32_t first, uint32_t last) {
  static_assert(kUnitColumns % kLogitBlock == 0, "two chunks would share a block");
  if (first >= last) return;
  for (uint32_t i = 0; i < passes_[pass].logits; ++i) {
    const std::span<float> logits{logits_.get() + size_t{i} * config_.vocabulary + first, last - first};
    if (config_.logit_cap != 0) kernels_.soft_cap(logits.data(), logits.size(), config_.logit_cap);
    float* peaks = peaks_.get() + i * logit_blocks(config_.vocabulary) + first / kLogitBlock;
    kernels_.block_peaks(logits.data(), logits.size(), peaks);
  }
}

void Logits::sample(uint32_t pass, uint32_t row, uint32_t thread) {
  BatchRow& sampled = batch_->rows[sampled_rows_[passes_[pass].first_row + row]];
  if (sampled.scores) return score(sampled);
  try {
    draw_tokens(sampled, samplers_[thread]);
  } catch (const std::bad_alloc&) {
    sampled.failure = Failure::kOutOfMemory;
  }
}

// A draft that fails ends its row's draws.
uint64_t Logits::positions_drawn(uint32_t pass) const {
  uint64_t positions = 0;
  for (uint32_t r = passes_[pass].first_row; r < passes_[pass].first_row + passes_[pass].rows; ++r) {
    const BatchRow& row = batch_->rows[sampled_rows_[r]];
    positions += row.scores ? row.logits : row.draws.size();
  }
  return positions;
}

LogitRow Logits::logits_of(const BatchRow& row, uint32_t position) const {
  const size_t index = row.first_logits + position - from_;
  const size_t blocks = logit_blocks(config_.vocabulary);
  return {kernels_,
          {logits_.get() + index * config_.vocabulary, config_.vocabulary},
          {peaks_.get() + index * blocks, blocks}};
}

// Draws until a draft fails: each draft's own draw must know the drafts before it.
void Logits::draw_tokens(BatchRow& row, SamplingScratch& scratch) {
  Sampler& sampler = *row.sequence->sampler;
  for (uint32_t i = 0; i < row.logits; ++i) {
    const size_t position = row.base + row.tokens - row.drafts + i;
    std::optional<Draw> drawn = sampler.draw(logits_of(row, i), position, scratch);
    if (!drawn) {
      row.failure = Failure::kLogitsNotFinite;
      return;
    }
    sampler.add_output(drawn->token);
    row.draws.push_back(*std::move(drawn));
    const Draw& draw = row.draws.back();
    if (draw.stopped || i == row.drafts || row.sequence->tokens[position] != draw.token) return;
    ++row.accepted;
  }
}

void Logits::score(const BatchRow& row) {
  for (uint32_t i = 0; i < row.logits; ++i) {
    const LogitRow logits = logits_of(row, i);
    const double total = log_sum_exp(logits.logits(), find_peak(logits).logit);
    float* out = row.scores + size_t{i} * config_.vocabulary;
    for (uint32_t token = 0; token < config_.vocabulary; ++token) {
      out[token] = static_cast<float>(logits[token] - total);
    }
  }
}

}  // namespace streamserve
