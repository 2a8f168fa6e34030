#include "step/buffers.h"

#include <algorithm>

namespace streamserve {
namespace {

// Matrices may meet in every packing that a file can mix.
constexpr Packing kPackings[] = {Packing::kInt4Affine, Packing::kInt4Symmetric, Packing::kInt4Codebook,
                                 Packing::kInt4Super,  Packing::kInt5Affine,    Packing::kInt5Symmetric,
                                 Packing::kInt5Super,  Packing::kInt6Super,     Packing::kInt8Symmetric,
                                 Packing::kBFloat16,   Packing::kFloat16,       Packing::kFloat32};

}  // namespace

size_t largest_panel(const Model& model, uint32_t tokens, uint32_t cols) {
  size_t bytes = 0;
  for (const Packing packing : kPackings)
    bytes = std::max(bytes, model.kernels().activation_bytes(packing, tokens, cols));
  return (bytes + kKernelAlignment - 1) / kKernelAlignment * kKernelAlignment;
}

size_t largest_input_panel(const Model& model, uint32_t tokens) {
  const ModelConfig& config = model.config();
  return std::max(largest_panel(model, tokens, config.embedding),
                  largest_panel(model, tokens, config.heads * config.head_dim));
}

StepBuffers::StepBuffers(const Model& model, uint32_t tokens) : tokens(tokens) {
  const ModelConfig& config = model.config();
  query_stride = size_t{config.heads + 2 * config.kv_heads} * config.head_dim;
  attended_stride = size_t{config.heads} * config.head_dim;
  hidden = aligned_array<float>(size_t{tokens} * config.embedding);
  projected = aligned_array<float>(tokens * query_stride);
  attended = aligned_array<float>(tokens * attended_stride);
  if (model.weights().branches()) branch = aligned_array<float>(size_t{tokens} * config.embedding);
  if (config.experts > 0) normed = aligned_array<float>(size_t{tokens} * config.embedding);
  cosines = aligned_array<float>(tokens * model.rotation_size());
  sines = aligned_array<float>(tokens * model.rotation_size());
  panel_bytes = largest_input_panel(model, tokens);
  panels = aligned_array<uint8_t>(Panels::kCount * panel_bytes);
  gated = aligned_array<uint8_t>(largest_panel(model, tokens, config.feed_forward));
}

}  // namespace streamserve
