#include "step/forward.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <optional>
#include <utility>

#include "sampling/logits.h"
#include "step/residual.h"
#include "step/units.h"

namespace streamserve {
namespace {

// Up to so many tokens, sharing a packing costs more than the packing.
constexpr uint32_t kInlineTokens = 2;
// Tokens of a chunk where every token is work of its own, at most: fewer where cores would have none.
constexpr uint32_t kTokensAChunk = 16;
// Positions of a logits pass: enough of them that reading the head's weights once a pass costs little beside
// multiplying them.
constexpr uint32_t kLogitsAPass = 32;

uint32_t tokens_a_chunk(uint32_t tokens, uint32_t cores) {
  return std::min(kTokensAChunk, divide_up(tokens, cores));
}

void add_to(float* x, const float* y, size_t count) {
  for (size_t i = 0; i < count; ++i) x[i] += y[i];
}

}  // namespace

Forward::Forward(const Model& model, KvPool& pool, uint32_t tokens)
    : model_(model),
      config_(model.config()),
      kernels_(model.kernels()),
      pool_(pool),
      buffers_(model, tokens),
      attention_(model, pool, buffers_),
      experts_(model, tokens) {
  program_.reserve(most_regions());
  chunks_.reserve(most_regions());
  row_of_token_.reserve(tokens);
}

void Forward::prepare(Batch& batch, uint32_t cores, uint32_t threads) {
  batch_ = &batch;
  inline_tokens_ = batch.tokens <= kInlineTokens;
  experts_.begin(batch.tokens);
  tokens_a_chunk_ = tokens_a_chunk(batch.tokens, cores);
  slots_a_chunk_ = std::max(1U, tokens_a_chunk(experts_.slots(), cores));
  if (profiling_) profile_ = {};
  if (buffers_.samplers.size() <= threads) buffers_.samplers.resize(threads + 1);
  program_.clear();
  chunks_.clear();
  row_of_token_.clear();
  sampled_rows_.clear();
  for (uint32_t r = 0; r < batch.rows.size(); ++r) {
    row_of_token_.insert(row_of_token_.end(), batch.rows[r].tokens, r);
    if (batch.rows[r].logits > 0) sampled_rows_.push_back(r);
  }
  attention_.plan(batch, cores);
  plan_logits();

  const auto add_pack = [&](Operation operation, uint32_t layer) {
    if (!inline_tokens_) add(operation, layer, token_chunks());
  };
  const auto add_matmul = [&](Operation operation, uint32_t layer) {
    add(operation, layer, matmul_chunks(matrices(operation, layer), cores));
  };
  add(Operation::kEmbed, 0, token_chunks());
  for (uint32_t l = 0; l < config_.layers; ++l) {
    add_pack(Operation::kPackAttentionInput, l);
    add_matmul(Operation::kProject, l);
    add_pack(Operation::kRotate, l);
    add(Operation::kAttend, l, attention_.chunks());
    add_pack(Operation::kPackAttended, l);
    add_matmul(Operation::kAttentionOut, l);
    add_pack(Operation::kPackFeedInput, l);
    if (config_.experts == 0) {
      add_matmul(Operation::kGateUp, l);
      add_pack(Operation::kPackGated, l);
      add_matmul(Operation::kDown, l);
      continue;
    }
    add_matmul(Operation::kRoute, l);
    add_pack(Operation::kChoose, l);
    // Which experts the tokens will choose is not known yet: chunks are shares of what it then comes to.
    const uint32_t slot_chunks = divide_up(experts_.slots(), slots_a_chunk_);
    if (!inline_tokens_) add(Operation::kPackExperts, l, slot_chunks);
    add(Operation::kExpertsGateUp, l, kChunksACore * cores);
    if (!inline_tokens_) add(Operation::kPackExpertsGated, l, slot_chunks);
    add(Operation::kExpertsDown, l, kChunksACore * cores);
  }
  for (uint32_t pass = 0; pass < passes_.size(); ++pass) {
    add(Operation::kHead, 0, std::min(units_of(model_.weights().head()), 4 * kChunksACore * cores), pass);
    add(Operation::kSample, 0, passes_[pass].rows, pass);
  }
}

// Two neighbouring passes together hold more than kLogitsAPass positions, or they would be one.
uint32_t Forward::most_regions() const {
  const uint32_t passes = 2 * divide_up(buffers_.tokens, kLogitsAPass) + 1;
  return 1 + model_.config().layers * 13 + 2 * passes;
}

// A row's logits lie in one pass, since each of its draws must know the ones before.
void Forward::plan_logits() {
  passes_.clear();
  uint32_t most = 0;
  for (uint32_t r = 0; r < sampled_rows_.size(); ++r) {
    const BatchRow& row = batch_->rows[sampled_rows_[r]];
    if (passes_.empty() || passes_.back().logits + row.logits > kLogitsAPass) {
      passes_.push_back({r, 0, row.first_logits, 0});
    }
    ++passes_.back().rows;
    passes_.back().logits += row.logits;
    most = std::max(most, passes_.back().logits);
  }
  buffers_.reserve_logits(model_, most);
}

void Forward::add(Operation operation, uint32_t layer, uint32_t chunks, uint32_t pass) {
  program_.push_back({operation, layer, pass});
  chunks_.push_back(chunks);
}

uint32_t Forward::token_chunks() const { return divide_up(batch_->tokens, tokens_a_chunk_); }

uint32_t Forward::matmul_chunks(const Matrices& matrices, uint32_t cores) const {
  uint32_t units = 0;
  for (uint32_t m = 0; m < matrices.count; ++m) units += units_of(*matrices.members[m].weights);
  return std::min(units, kChunksACore * cores);
}

Forward::Matrices Forward::matrices(Operation operation, uint32_t layer) const {
  const LayerWeights& w = model_.weights().layers()[layer];
  const bool branches = model_.weights().branches();
  float* joined = branches ? buffers_.branch.get() : buffers_.hidden.get();
  switch (operation) {
    case Operation::kPackAttentionInput:
    case Operation::kProject: {
      float* key = buffers_.projected.get() + size_t{config_.heads} * config_.head_dim;
      float* value = key + size_t{config_.kv_heads} * config_.head_dim;
      return {{{{&w.query.weights, buffers_.projected.get()},
                {&w.key.weights, key},
                {&w.value.weights, value, is_quantised(w.value.weights.packing)}}},
              3,
              buffers_.query_stride,
              false};
    }
    case Operation::kPackAttended:
    case Operation::kAttentionOut:
      return {{{{&w.attention_out.weights, joined}}}, 1, config_.embedding, !branches};
    case Operation::kRoute:
      return {{{{&w.router, experts_.scores()}}}, 1, config_.experts, false};
    case Operation::kPackFeedInput:
      if (config_.experts > 0) return matrices(Operation::kRoute, layer);
      [[fallthrough]];
    case Operation::kGateUp:
      return {{{{&w.gate.weights, buffers_.feed.get()},
                {&w.up.weights, buffers_.feed.get() + config_.feed_forward}}},
              2,
              buffers_.feed_stride,
              false};
    default:
      return {{{{&w.down.weights, joined}}}, 1, config_.embedding, !branches};
  }
}

void Forward::run(uint32_t region, uint32_t chunk, ThreadScratch scratch) noexcept {
  const auto [operation, layer, pass] = program_[region];
  const uint32_t begin = chunk * tokens_a_chunk_;
  const uint32_t end = std::min(batch_->tokens, begin + tokens_a_chunk_);
  const uint32_t begin_slot = chunk * slots_a_chunk_;
  const uint32_t end_slot = std::min(experts_.slots(), begin_slot + slots_a_chunk_);
  const LayerWeights& w = model_.weights().layers()[layer];
  switch (operation) {
    case Operation::kEmbed:
      return embed(begin, end);
    case Operation::kRotate:
      return rotate(layer, begin, end);
    case Operation::kAttend:
      return attention_.run(layer, chunk, scratch);
    case Operation::kPackAttentionInput:
    case Operation::kPackAttended:
    case Operation::kPackFeedInput:
    case Operation::kPackGated:
      return pack(operation, layer, begin, end);
    case Operation::kProject:
    case Operation::kAttentionOut:
    case Operation::kGateUp:
    case Operation::kDown:
    case Operation::kRoute:
      return multiply(matrices(operation, layer), chunk, chunks_[region]);
    case Operation::kChoose:
      return experts_.choose(begin, end);
    case Operation::kPackExperts:
      return experts_.pack_input(w, buffers_.normed.get(), begin_slot, end_slot);
    case Operation::kExpertsGateUp:
      return experts_.gate_up(w, chunk, chunks_[region]);
    case Operation::kPackExpertsGated:
      return experts_.pack_gated(w, begin_slot, end_slot);
    case Operation::kExpertsDown:
      return experts_.down(w, chunk, chunks_[region]);
    case Operation::kHead:
      return multiply_head(passes_[pass], chunk, chunks_[region]);
    // Never a region of its own: gather_head_input() runs between two.
    case Operation::kPackHeadInput:
      return;
    case Operation::kSample:
      return sample(passes_[pass], chunk, scratch);
  }
}

void Forward::finish(uint32_t region) noexcept {
  const auto [operation, layer, pass] = program_[region];
  const bool feeds = operation == Operation::kDown || operation == Operation::kExpertsDown;
  const bool last = layer + 1 == config_.layers;
  if (feeds && last && !passes_.empty()) gather_head_input(passes_[0]);
  if (operation == Operation::kSample && pass + 1 < passes_.size()) gather_head_input(passes_[pass + 1]);
  if (operation == Operation::kChoose) experts_.sort();
  if (inline_tokens_) finish_inline(region);
  if (profiling_) note_work(region);
}

// What is too short to share, after the region that it reads from.
void Forward::finish_inline(uint32_t region) {
  const auto [operation, layer, pass] = program_[region];
  const LayerWeights& w = model_.weights().layers()[layer];
  switch (operation) {
    case Operation::kEmbed:
      return pack(Operation::kPackAttentionInput, 0, 0, batch_->tokens);
    case Operation::kProject:
      return rotate(layer, 0, batch_->tokens);
    case Operation::kAttend:
      return pack(Operation::kPackAttended, layer, 0, batch_->tokens);
    case Operation::kAttentionOut:
      return pack(Operation::kPackFeedInput, layer, 0, batch_->tokens);
    case Operation::kGateUp:
      return pack(Operation::kPackGated, layer, 0, batch_->tokens);
    case Operation::kRoute:
      experts_.choose(0, batch_->tokens);
      experts_.sort();
      return experts_.pack_input(w, buffers_.normed.get(), 0, experts_.slots());
    case Operation::kExpertsGateUp:
      return experts_.pack_gated(w, 0, experts_.slots());
    case Operation::kDown:
    case Operation::kExpertsDown:
      if (layer + 1 < config_.layers) pack(Operation::kPackAttentionInput, layer + 1, 0, batch_->tokens);
      return;
    default:
      return;
  }
}

void Forward::embed(uint32_t begin, uint32_t end) {
  const size_t rotations = model_.rotation_size();
  for (uint32_t t = begin; t < end; ++t) {
    const BatchRow& row = batch_->rows[row_of_token_[t]];
    const uint32_t position = row.base + (t - row.first_token);
    float* hidden = buffers_.hidden.get() + size_t{t} * config_.embedding;
    model_.weights().embed(kernels_, row.sequence->tokens[position], hidden);
    if (config_.embedding_scale != 1) {
      for (uint32_t k = 0; k < config_.embedding; ++k) hidden[k] *= config_.embedding_scale;
    }
    model_.rotation(position, buffers_.cosines.get() + t * rotations, buffers_.sines.get() + t * rotations);
  }
}

void Forward::join_attention(const LayerWeights& w, uint32_t begin, uint32_t end) {
  if (!model_.weights().branches()) return;
  for (uint32_t t = begin; t < end; ++t) join(w.attention_out.bias, w.attention_post_norm, t);
}

void Forward::join_feed(const LayerWeights& w, uint32_t begin, uint32_t end) {
  if (!model_.weights().branches()) return;
  for (uint32_t t = begin; t < end; ++t) {
    if (config_.experts > 0) experts_.sum(t, buffers_.branch.get() + size_t{t} * config_.embedding);
    join(w.down.bias, w.feed_forward_post_norm, t);
  }
}

// Adds what attention or feed-forward gave to the residual stream, after its bias and norm. Where a model has
// neither, their last matrix adds to the stream itself.
void Forward::join(const float* branch_bias, const float* branch_norm, uint32_t token) {
  float* branch = buffers_.branch.get() + size_t{token} * config_.embedding;
  if (branch_bias) add_to(branch, branch_bias, config_.embedding);
  if (branch_norm) normalise(branch, branch_norm, config_.norm_epsilon, config_.embedding, branch);
  add_to(buffers_.hidden.get() + size_t{token} * config_.embedding, branch, config_.embedding);
}

// Biases and norms of a token's projections, before their rotation.
void Forward::prepare_heads(const LayerWeights& w, float* query) {
  const size_t queries = size_t{config_.heads} * config_.head_dim;
  const size_t keys = size_t{config_.kv_heads} * config_.head_dim;
  float* key = query + queries;
  if (w.query.bias) add_to(query, w.query.bias, queries);
  if (w.key.bias) add_to(key, w.key.bias, keys);
  if (w.value.bias) add_to(key + keys, w.value.bias, keys);
  if (!w.query_norm) return;
  for (uint32_t h = 0; h < config_.heads + config_.kv_heads; ++h) {
    float* head = query + size_t{h} * config_.head_dim;
    normalise(head, h < config_.heads ? w.query_norm : w.key_norm, config_.norm_epsilon, config_.head_dim,
              head);
  }
}

void Forward::rotate(uint32_t layer, uint32_t begin, uint32_t end) {
  const LayerWeights& w = model_.weights().layers()[layer];
  const RopeStyle style = config_.family->rope_style;
  const size_t rotation = config_.kinds[layer].rope * size_t{config_.rotated / 2};
  const KvLayout& layout = pool_.layout();
  for (uint32_t t = begin; t < end; ++t) {
    const float* cosines = buffers_.cosines.get() + t * model_.rotation_size() + rotation;
    const float* sines = buffers_.sines.get() + t * model_.rotation_size() + rotation;
    float* query = buffers_.projected.get() + t * buffers_.query_stride;
    prepare_heads(w, query);
    // Query and key heads lie side by side.
    kernels_.rope(query, config_.heads + config_.kv_heads, config_.head_dim, config_.rotated, cosines, sines,
                  style);
  }
  for (uint32_t t = begin; t < end;) {
    const BatchRow& row = batch_->rows[row_of_token_[t]];
    const uint32_t position = row.base + (t - row.first_token);
    const uint32_t slot = position % layout.block_tokens;
    const uint32_t run = std::min({end - t, row.first_token + row.tokens - t, layout.block_tokens - slot});
    const float* key =
        buffers_.projected.get() + t * buffers_.query_stride + size_t{config_.heads} * config_.head_dim;
    const float* value = key + size_t{config_.kv_heads} * config_.head_dim;
    uint16_t* block = pool_.block(row.sequence->blocks[position / layout.block_tokens]);
    for (uint32_t h = 0; h < config_.kv_heads; ++h) {
      const size_t head = size_t{h} * config_.head_dim;
      kernels_.store_kv(layout.format, {key + head, value + head, buffers_.query_stride, run},
                        config_.head_dim, slot, block + layout.key_offset(layer, h),
                        block + layout.value_offset(layer, h));
    }
    t += run;
  }
}

// Packs tokens [begin, end) of the input of the matrices that follow, once for each packing among them.
void Forward::pack(Operation operation, uint32_t layer, uint32_t begin, uint32_t end) {
  const LayerWeights& w = model_.weights().layers()[layer];
  const Matrices next = matrices(operation, layer);
  if (operation == Operation::kPackAttentionInput) prepare_attention_input(layer, begin, end);
  if (operation == Operation::kPackFeedInput) {
    join_attention(w, begin, end);
    if (config_.experts > 0) prepare_router_input(w, begin, end);
  }
  if (operation == Operation::kPackGated) prepare_gated(w, begin, end);
  uint32_t panels = 0;
  for (uint32_t m = 0; m < next.count; ++m) {
    const PackedMatrix& matrix = *next.members[m].weights;
    bool packed = false;
    for (uint32_t earlier = 0; earlier < m; ++earlier) {
      packed = packed || next.members[earlier].weights->packing == matrix.packing;
    }
    if (packed) continue;
    const Activations out{batch_->tokens, matrix.cols, matrix.packing,
                          buffers_.panels.get() + panels++ * buffers_.panel_bytes};
    switch (operation) {
      case Operation::kPackAttentionInput:
        kernels_.pack_activations(buffers_.normed.get() + size_t{begin} * config_.embedding,
                                  config_.embedding, tokens_of(out, begin, end), out);
        break;
      case Operation::kPackFeedInput:
        if (config_.experts > 0) {
          kernels_.pack_activations(buffers_.normed.get() + size_t{begin} * config_.embedding,
                                    config_.embedding, tokens_of(out, begin, end), out);
          break;
        }
        kernels_.norm_pack_activations(buffers_.hidden.get() + size_t{begin} * config_.embedding,
                                       config_.embedding, w.feed_forward_norm, config_.norm_epsilon, begin,
                                       end, out);
        break;
      case Operation::kPackAttended:
        kernels_.pack_activations(buffers_.attended.get() + begin * buffers_.attended_stride,
                                  buffers_.attended_stride, tokens_of(out, begin, end), out);
        break;
      default: {
        const auto fill = config_.family->gate == Gate::kSilu ? kernels_.silu_pack_activations
                                                              : kernels_.gelu_pack_activations;
        const float* gate = buffers_.feed.get() + begin * buffers_.feed_stride;
        fill(gate, gate + config_.feed_forward, buffers_.feed_stride, tokens_of(out, begin, end), out);
      }
    }
  }
}

void Forward::multiply(const Matrices& matrices, uint32_t chunk, uint32_t chunks) {
  uint32_t units = 0;
  for (uint32_t m = 0; m < matrices.count; ++m) units += units_of(*matrices.members[m].weights);
  const uint32_t begin = static_cast<uint32_t>(uint64_t{units} * chunk / chunks);
  const uint32_t end = static_cast<uint32_t>(uint64_t{units} * (chunk + 1) / chunks);
  uint32_t first = 0;
  uint32_t panels = 0;
  std::array<uint32_t, 3> panel_of{};
  for (uint32_t m = 0; m < matrices.count; ++m) {
    const PackedMatrix& matrix = *matrices.members[m].weights;
    panel_of[m] = panels;
    for (uint32_t earlier = 0; earlier < m; ++earlier) {
      if (matrices.members[earlier].weights->packing == matrix.packing) panel_of[m] = panel_of[earlier];
    }
    if (panel_of[m] == panels) ++panels;
    const uint32_t last = first + units_of(matrix);
    const uint32_t from = (std::max(begin, first) - first) * kTilesAUnit;
    const uint32_t to =
        std::min((std::min(end, last) - std::min(end, first)) * kTilesAUnit, tiles_of(matrix));
    if (from < to) {
      const Activations in{batch_->tokens, matrix.cols, matrix.packing,
                           buffers_.panels.get() + panel_of[m] * buffers_.panel_bytes};
      kernels_.matmul(matrix, in, from, to, matrices.members[m].out, matrices.stride, matrices.accumulate);
      if (matrices.members[m].refine) {
        const Activations rest{batch_->tokens, matrix.cols, matrix.packing,
                               buffers_.panels.get() + StepBuffers::kResidualPanel * buffers_.panel_bytes};
        kernels_.matmul(matrix, rest, from, to, matrices.members[m].out, matrices.stride, true);
      }
    }
    first = last;
  }
}

// Normalises the attention's input, and packs what its quantisation will lose for the values: a tenth of the
// error of the whole network comes from these small matrices, see docs/decisions/activations.md.
void Forward::prepare_attention_input(uint32_t layer, uint32_t begin, uint32_t end) {
  const std::vector<LayerWeights>& layers = model_.weights().layers();
  if (layer > 0) join_feed(layers[layer - 1], begin, end);
  const LayerWeights& w = layers[layer];
  const bool refine = is_quantised(w.value.weights.packing);
  for (uint32_t t = begin; t < end; ++t) {
    const size_t row = size_t{t} * config_.embedding;
    normalise(buffers_.hidden.get() + row, w.attention_norm, config_.norm_epsilon, config_.embedding,
              buffers_.normed.get() + row);
    if (refine) {
      quantisation_residual(buffers_.normed.get() + row, config_.embedding, buffers_.residual.get() + row);
    }
  }
  if (!refine) return;
  const Activations out{batch_->tokens, w.value.weights.cols, w.value.weights.packing,
                        buffers_.panels.get() + StepBuffers::kResidualPanel * buffers_.panel_bytes};
  kernels_.pack_activations(buffers_.residual.get() + size_t{begin} * config_.embedding, config_.embedding,
                            tokens_of(out, begin, end), out);
}

// The experts read the same rows as their router.
void Forward::prepare_router_input(const LayerWeights& w, uint32_t begin, uint32_t end) {
  for (uint32_t t = begin; t < end; ++t) {
    const size_t row = size_t{t} * config_.embedding;
    normalise(buffers_.hidden.get() + row, w.feed_forward_norm, config_.norm_epsilon, config_.embedding,
              buffers_.normed.get() + row);
  }
}

void Forward::prepare_gated(const LayerWeights& w, uint32_t begin, uint32_t end) {
  if (!w.gate.bias && !w.up.bias) return;
  for (uint32_t t = begin; t < end; ++t) {
    float* gate = buffers_.feed.get() + t * buffers_.feed_stride;
    if (w.gate.bias) add_to(gate, w.gate.bias, config_.feed_forward);
    if (w.up.bias) add_to(gate + config_.feed_forward, w.up.bias, config_.feed_forward);
  }
}

// The logits' input: just the positions that want them, side by side.
void Forward::gather_head_input(const LogitsPass& pass) {
  const LayerWeights& last = model_.weights().layers().back();
  const PackedMatrix& head = model_.weights().head();
  const size_t width = config_.embedding;
  float* out = buffers_.gathered.get();
  for (uint32_t r = pass.first_row; r < pass.first_row + pass.rows; ++r) {
    const BatchRow& row = batch_->rows[sampled_rows_[r]];
    const uint32_t from = row.first_token + row.tokens - row.logits;
    join_feed(last, from, from + row.logits);
    out = std::copy_n(buffers_.hidden.get() + from * width, row.logits * width, out);
  }
  logits_from_ = pass.first;
  const Activations packed{pass.logits, head.cols, head.packing, buffers_.head_panel.get()};
  kernels_.norm_pack_activations(buffers_.gathered.get(), width, model_.weights().output_norm(),
                                 config_.norm_epsilon, 0, pass.logits, packed);
}

void Forward::multiply_head(const LogitsPass& pass, uint32_t chunk, uint32_t chunks) {
  const PackedMatrix& head = model_.weights().head();
  const uint64_t units = units_of(head);
  const Activations in{pass.logits, head.cols, head.packing, buffers_.head_panel.get()};
  const auto tile_at = [&](uint64_t part) {
    return std::min(static_cast<uint32_t>(units * part / chunks) * kTilesAUnit, tiles_of(head));
  };
  const uint32_t from = tile_at(chunk);
  const uint32_t to = tile_at(chunk + 1);
  kernels_.matmul(head, in, from, to, buffers_.logits.get(), config_.vocabulary, false);
  finish_logits(pass, from * kTileRows, std::min(to * kTileRows, config_.vocabulary));
}

// What remains to do for ids [first, last) while they are in cache.
void Forward::finish_logits(const LogitsPass& pass, uint32_t first, uint32_t last) {
  static_assert(kTilesAUnit * kTileRows % kLogitBlock == 0, "two chunks would share a block");
  if (first >= last) return;
  for (uint32_t i = 0; i < pass.logits; ++i) {
    const std::span<float> logits{buffers_.logits.get() + size_t{i} * config_.vocabulary + first,
                                  last - first};
    if (config_.logit_cap != 0) kernels_.soft_cap(logits.data(), logits.size(), config_.logit_cap);
    float* peaks = buffers_.peaks.get() + i * logit_blocks(config_.vocabulary) + first / kLogitBlock;
    kernels_.block_peaks(logits.data(), logits.size(), peaks);
  }
}

LogitRow Forward::logits_of(const BatchRow& row, uint32_t position) const {
  const size_t index = row.first_logits + position - logits_from_;
  const size_t blocks = logit_blocks(config_.vocabulary);
  return {{buffers_.logits.get() + index * config_.vocabulary, config_.vocabulary},
          {buffers_.peaks.get() + index * blocks, blocks}};
}

void Forward::sample(const LogitsPass& pass, uint32_t chunk, ThreadScratch scratch) {
  BatchRow& row = batch_->rows[sampled_rows_[pass.first_row + chunk]];
  if (row.scores) return score(row);
  try {
    draw_tokens(row, buffers_.samplers[scratch.thread]);
  } catch (const std::bad_alloc&) {
    row.failure = Failure::kOutOfMemory;
  }
}

// Draws until a draft fails: each draft's own draw must know the drafts before it.
void Forward::draw_tokens(BatchRow& row, SamplingScratch& scratch) {
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

void Forward::score(const BatchRow& row) {
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
