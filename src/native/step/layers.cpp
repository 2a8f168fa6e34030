#include "step/layers.h"

#include <algorithm>

#include "step/gated.h"
#include "step/normalise.h"

namespace streamserve {
namespace {

void add_to(float* x, const float* y, size_t count) {
  for (size_t i = 0; i < count; ++i) x[i] += y[i];
}

// The part of a vector that may be missing.
const float* part_of(const float* vector, size_t at) { return vector ? vector + at : nullptr; }

}  // namespace

Layers::Layers(const Model& model, KvPool& pool, const StepBuffers& buffers, const Experts& experts)
    : model_(model),
      config_(model.config()),
      kernels_(model.kernels()),
      pool_(pool),
      buffers_(buffers),
      experts_(experts) {}

void Layers::begin(const Batch& batch) {
  batch_ = &batch;
  row_of_token_.clear();
  for (uint32_t r = 0; r < batch.rows.size(); ++r) {
    row_of_token_.insert(row_of_token_.end(), batch.rows[r].tokens, r);
  }
}

uint32_t Layers::position_of(uint32_t token) const {
  const BatchRow& row = batch_->rows[row_of_token_[token]];
  return row.base + (token - row.first_token);
}

float* Layers::joined(uint32_t token) const {
  float* all = model_.weights().branches() ? buffers_.branch.get() : buffers_.hidden.get();
  return all + size_t{token} * config_.embedding;
}

Readers Layers::attention_readers(uint32_t layer) const {
  const LayerWeights& w = weights(layer);
  return {w.query.weights, w.key.weights, w.value.weights};
}

Readers Layers::feed_readers(uint32_t layer) const {
  const LayerWeights& w = weights(layer);
  return config_.experts > 0 ? Readers(w.router) : Readers(w.gate.weights, w.up.weights);
}

void Layers::embed(Tokens tokens, Workspace& work) const {
  const size_t rotations = model_.rotation_size();
  for (uint32_t t = tokens.begin; t < tokens.end; ++t) {
    const uint32_t position = position_of(t);
    float* out = hidden(t);
    model_.weights().embed(kernels_, batch_->rows[row_of_token_[t]].sequence->tokens[position], out);
    if (config_.embedding_scale != 1) {
      for (uint32_t k = 0; k < config_.embedding; ++k) out[k] *= config_.embedding_scale;
    }
    model_.rotation(position, buffers_.cosines.get() + t * rotations, buffers_.sines.get() + t * rotations);
  }
  work.clock.lap(Operation::kEmbed);
}

// Packs beside the input what its quantisation loses for the values: a tenth of the error of the whole
// network comes from these small matrices, see docs/decisions/activations.md.
void Layers::pack_attention_input(uint32_t layer, Tokens tokens, const Panels& in, Workspace& work) const {
  const LayerWeights& w = weights(layer);
  const size_t width = config_.embedding;
  for (uint32_t t = tokens.begin; t < tokens.end; ++t) {
    normalise(hidden(t), w.attention_norm, config_.norm_epsilon, config_.embedding,
              work.rows.get() + (t - tokens.begin) * width);
  }
  const bool refine = refines(layer);
  attention_readers(layer).each_panel(in, tokens, [&](const Activations& out, const ActivationRange& range) {
    if (refine && out.packing == w.value.weights.packing) {
      kernels_.pack_activations_and_rest(work.rows.get(), width, range, out,
                                         in.at(Panels::kRest, w.value.weights));
    } else {
      kernels_.pack_activations(work.rows.get(), width, range, out);
    }
  });
  work.clock.lap(Operation::kPackAttentionInput);
}

void Layers::pack_attended(uint32_t layer, Tokens tokens, const Panels& in, Workspace& work) const {
  const PackedMatrix& reader = weights(layer).attention_out.weights;
  kernels_.pack_activations(buffers_.attended.get() + tokens.begin * buffers_.attended_stride,
                            buffers_.attended_stride, in.range(tokens, reader), in.at(0, reader));
  work.clock.lap(Operation::kPackAttended);
}

void Layers::pack_feed_input(uint32_t layer, Tokens tokens, const Panels& in, Workspace& work) const {
  const LayerWeights& w = weights(layer);
  feed_readers(layer).each_panel(in, tokens, [&](const Activations& out, const ActivationRange& range) {
    if (config_.experts > 0) {
      kernels_.pack_activations(buffers_.normed.get() + size_t{tokens.begin} * config_.embedding,
                                config_.embedding, range, out);
    } else {
      kernels_.norm_pack_activations(hidden(tokens.begin), config_.embedding, w.feed_forward_norm,
                                     config_.norm_epsilon, range.token_begin, range.token_end, out);
    }
  });
  work.clock.lap(Operation::kPackFeedInput);
}

// Keys with values first: they take longest.
void Layers::project(uint32_t layer, const Panels& in, Share share, Workspace& work) const {
  const uint32_t heads = project_parts();
  for (uint32_t i = share.begin(heads); i < share.end(heads); ++i) {
    if (i < config_.kv_heads) {
      project_key_value(layer, in, i, work);
    } else {
      project_query(layer, in, i - config_.kv_heads, work);
    }
  }
}

void Layers::multiply_head(const PackedMatrix& matrix, const Activations& in, uint32_t head, float* out,
                           bool accumulate) const {
  const uint32_t tiles = config_.head_dim / kTileRows;
  kernels_.matmul(matrix, in, head * tiles, (head + 1) * tiles, out, buffers_.query_stride, accumulate);
}

void Layers::rotate_head(uint32_t layer, uint32_t token, float* x, const float* bias,
                         const float* norm) const {
  if (bias) add_to(x, bias, config_.head_dim);
  if (norm) normalise(x, norm, config_.norm_epsilon, config_.head_dim, x);
  const size_t rotation =
      token * model_.rotation_size() + config_.kinds[layer].rope * size_t{config_.rotated / 2};
  kernels_.rope(x, 1, config_.head_dim, config_.rotated, buffers_.cosines.get() + rotation,
                buffers_.sines.get() + rotation, config_.family->rope_style);
}

void Layers::project_query(uint32_t layer, const Panels& in, uint32_t head, Workspace& work) const {
  const LayerWeights& w = weights(layer);
  const size_t at = size_t{head} * config_.head_dim;
  float* const out = buffers_.projected.get() + in.tokens.begin * buffers_.query_stride;
  multiply_head(w.query.weights, attention_readers(layer).input(0, in), head, out, false);
  work.clock.lap(Operation::kProject);
  for (uint32_t t = in.tokens.begin; t < in.tokens.end; ++t) {
    rotate_head(layer, t, buffers_.projected.get() + t * buffers_.query_stride + at,
                part_of(w.query.bias, at), w.query_norm);
  }
  work.clock.lap(Operation::kRotate);
}

void Layers::project_key_value(uint32_t layer, const Panels& in, uint32_t head, Workspace& work) const {
  const LayerWeights& w = weights(layer);
  const KvLayout& layout = pool_.layout();
  const size_t keys_at = size_t{config_.heads} * config_.head_dim;
  const size_t values_at = keys_at + size_t{config_.kv_heads} * config_.head_dim;
  const size_t at = size_t{head} * config_.head_dim;
  float* const out = buffers_.projected.get() + in.tokens.begin * buffers_.query_stride;
  const Readers readers = attention_readers(layer);
  multiply_head(w.key.weights, readers.input(1, in), head, out + keys_at, false);
  multiply_head(w.value.weights, readers.input(2, in), head, out + values_at, false);
  if (refines(layer)) {
    multiply_head(w.value.weights, in.at(Panels::kRest, w.value.weights), head, out + values_at, true);
  }
  work.clock.lap(Operation::kProject);
  for (uint32_t t = in.tokens.begin; t < in.tokens.end; ++t) {
    float* const key = buffers_.projected.get() + t * buffers_.query_stride + keys_at + at;
    float* const value = key + (values_at - keys_at);
    rotate_head(layer, t, key, part_of(w.key.bias, at), w.key_norm);
    if (w.value.bias) add_to(value, w.value.bias + at, config_.head_dim);
  }
  for (uint32_t t = in.tokens.begin; t < in.tokens.end;) {
    const BatchRow& row = batch_->rows[row_of_token_[t]];
    const uint32_t position = position_of(t);
    const uint32_t slot = position % layout.block_tokens;
    const uint32_t run =
        std::min({in.tokens.end - t, row.first_token + row.tokens - t, layout.block_tokens - slot});
    const float* const key = buffers_.projected.get() + t * buffers_.query_stride + keys_at + at;
    uint16_t* block = pool_.block(row.sequence->blocks[position / layout.block_tokens]);
    kernels_.store_kv(layout.format, {key, key + (values_at - keys_at), buffers_.query_stride, run},
                      config_.head_dim, slot, block + layout.key_offset(layer, head),
                      block + layout.value_offset(layer, head));
    t += run;
  }
  work.clock.lap(Operation::kRotate);
}

void Layers::attention_out(uint32_t layer, const Panels& in, Share share, Workspace& work) const {
  const PackedMatrix& matrix = weights(layer).attention_out.weights;
  multiply_share(kernels_, matrix, in.at(0, matrix), share, joined(in.tokens.begin), config_.embedding,
                 accumulates());
  work.clock.lap(Operation::kAttentionOut);
}

void Layers::gate_up(uint32_t layer, const Panels& in, Share share, uint8_t* gated, Workspace& work) const {
  const LayerWeights& w = weights(layer);
  const Readers readers = feed_readers(layer);
  const GatedProduct product{&w.gate.weights,
                             &w.up.weights,
                             w.gate.bias,
                             w.up.bias,
                             readers.input(0, in),
                             readers.input(1, in),
                             {in.tokens.count(), w.down.weights.cols, w.down.weights.packing, gated},
                             config_.family->gate,
                             Operation::kGateUp,
                             Operation::kPackGated};
  const uint32_t units = units_of(w.gate.weights);
  multiply_gated(kernels_, product, share.begin(units), share.end(units), work);
}

void Layers::down(uint32_t layer, Tokens tokens, uint8_t* gated, Share share, Workspace& work) const {
  const PackedMatrix& matrix = weights(layer).down.weights;
  const Activations in{tokens.count(), matrix.cols, matrix.packing, gated};
  multiply_share(kernels_, matrix, in, share, joined(tokens.begin), config_.embedding, accumulates());
  work.clock.lap(Operation::kDown);
}

void Layers::join_attention(uint32_t layer, Tokens tokens, Workspace& work) const {
  if (!model_.weights().branches()) return;
  const LayerWeights& w = weights(layer);
  for (uint32_t t = tokens.begin; t < tokens.end; ++t) join(w.attention_out.bias, w.attention_post_norm, t);
  work.clock.lap(Operation::kPackFeedInput);
}

void Layers::join_feed(uint32_t layer, Tokens tokens, Workspace& work) const {
  if (!model_.weights().branches()) return;
  const LayerWeights& w = weights(layer);
  for (uint32_t t = tokens.begin; t < tokens.end; ++t) {
    if (config_.experts > 0) experts_.sum(t, buffers_.branch.get() + size_t{t} * config_.embedding);
    join(w.down.bias, w.feed_forward_post_norm, t);
  }
  work.clock.lap(Operation::kPackAttentionInput);
}

void Layers::join(const float* bias, const float* norm, uint32_t token) const {
  float* branch = buffers_.branch.get() + size_t{token} * config_.embedding;
  if (bias) add_to(branch, bias, config_.embedding);
  if (norm) normalise(branch, norm, config_.norm_epsilon, config_.embedding, branch);
  add_to(hidden(token), branch, config_.embedding);
}

void Layers::prepare_router_input(uint32_t layer, Tokens tokens, Workspace& work) const {
  for (uint32_t t = tokens.begin; t < tokens.end; ++t) {
    normalise(hidden(t), weights(layer).feed_forward_norm, config_.norm_epsilon, config_.embedding,
              buffers_.normed.get() + size_t{t} * config_.embedding);
  }
  work.clock.lap(Operation::kPackFeedInput);
}

void Layers::route(uint32_t layer, const Panels& in, Share share, Workspace& work) const {
  const PackedMatrix& router = weights(layer).router;
  multiply_share(kernels_, router, in.at(0, router), share,
                 experts_.scores() + size_t{in.tokens.begin} * config_.experts, config_.experts, false);
  work.clock.lap(Operation::kRoute);
}

}  // namespace streamserve
