#include "step/buffers.h"

#include <algorithm>

namespace streamserve {
namespace {

// Matrices may meet in every packing that a file can mix.
constexpr Packing kPackings[] = {Packing::kInt4Affine, Packing::kInt4Symmetric, Packing::kInt4Codebook,
                                 Packing::kInt4Super,  Packing::kInt5Affine,    Packing::kInt5Symmetric,
                                 Packing::kInt5Super,  Packing::kInt6Super,     Packing::kInt8Symmetric,
                                 Packing::kBFloat16,   Packing::kFloat16,       Packing::kFloat32};

size_t largest_panel(const Kernels& kernels, uint32_t tokens, uint32_t cols) {
  size_t bytes = 0;
  for (const Packing packing : kPackings)
    bytes = std::max(bytes, kernels.activation_bytes(packing, tokens, cols));
  return (bytes + kKernelAlignment - 1) / kKernelAlignment * kKernelAlignment;
}

}  // namespace

StepBuffers::StepBuffers(const Model& model, uint32_t tokens) : tokens(tokens) {
  const ModelConfig& config = model.config();
  query_stride = size_t{config.heads + 2 * config.kv_heads} * config.head_dim;
  attended_stride = size_t{config.heads} * config.head_dim;
  feed_stride = size_t{2} * config.feed_forward;
  hidden = aligned_array<float>(size_t{tokens} * config.embedding);
  projected = aligned_array<float>(tokens * query_stride);
  attended = aligned_array<float>(tokens * attended_stride);
  feed = aligned_array<float>(tokens * feed_stride);
  if (model.weights().branches()) branch = aligned_array<float>(size_t{tokens} * config.embedding);
  cosines = aligned_array<float>(tokens * model.rotation_size());
  sines = aligned_array<float>(tokens * model.rotation_size());
  normed = aligned_array<float>(size_t{tokens} * config.embedding);
  residual = aligned_array<float>(size_t{tokens} * config.embedding);
  panel_bytes = std::max({largest_panel(model.kernels(), tokens, config.embedding),
                          largest_panel(model.kernels(), tokens, static_cast<uint32_t>(attended_stride)),
                          largest_panel(model.kernels(), tokens, config.feed_forward)});
  panels = aligned_array<uint8_t>(kPanels * panel_bytes);
}

void StepBuffers::reserve_logits(const Model& model, uint32_t rows) {
  const ModelConfig& config = model.config();
  if (rows <= logit_rows) return;
  // By half again, so that a growing batch does not move at every step. The old ones go first: nothing in
  // them is kept, and both together would be the most that a step ever takes.
  const uint32_t room = std::max(rows, logit_rows + logit_rows / 2);
  logit_rows = 0;
  gathered.reset();
  logits.reset();
  peaks.reset();
  head_panel.reset();
  gathered = aligned_array<float>(size_t{room} * config.embedding);
  logits = aligned_array<float>(size_t{room} * config.vocabulary);
  peaks = aligned_array<float>(room * logit_blocks(config.vocabulary));
  head_panel = aligned_array<uint8_t>(
      model.kernels().activation_bytes(model.weights().head().packing, room, config.embedding));
  logit_rows = room;
}

}  // namespace streamserve
