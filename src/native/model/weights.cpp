#include "model/weights.h"

#include <algorithm>
#include <unordered_set>

#include "error.h"
#include "model/pack_job.h"

namespace streamserve {
namespace {

Format known_format(const TensorInfo& tensor) {
  switch (static_cast<Format>(tensor.format)) {
    case Format::kF32:
    case Format::kF16:
    case Format::kBF16:
    case Format::kQ8_0:
    case Format::kQ4_0:
    case Format::kQ4_1:
      return static_cast<Format>(tensor.format);
  }
  throw EngineError(ErrorCode::kModelFormatUnsupported,
                    "The model file keeps the tensor " + tensor.name + " as " + format_name(tensor.format) +
                        "; this engine reads F32, F16, BF16, Q8_0, Q4_0 and Q4_1.");
}

std::string shape_text(uint64_t cols, uint64_t rows) {
  return std::to_string(cols) + " x " + std::to_string(rows);
}

}  // namespace

// Looks tensors up, checks them, and remembers what to pack where.
struct Weights::Plan {
  const ModelSource& source;
  const Kernels& kernels;
  const bool exact;
  std::vector<PackJob> jobs;
  std::unordered_set<std::string> used;
  size_t bytes = 0;

  const TensorInfo* find(const std::string& name, uint64_t cols, uint64_t rows) {
    const TensorInfo* tensor = source.tensor(name);
    if (!tensor) return nullptr;
    if (tensor->shape[0] != cols || tensor->shape[1] != rows || tensor->shape[2] != 1 ||
        tensor->shape[3] != 1) {
      throw EngineError(ErrorCode::kModelFileInvalid, "The tensor " + name + " is " +
                                                          shape_text(tensor->shape[0], tensor->shape[1]) +
                                                          ", not " + shape_text(cols, rows) + ".");
    }
    known_format(*tensor);
    used.insert(name);
    return tensor;
  }

  const TensorInfo& need(const std::string& name, uint64_t cols, uint64_t rows) {
    const TensorInfo* tensor = find(name, cols, rows);
    if (!tensor)
      throw EngineError(ErrorCode::kModelFileInvalid, "The model file has no tensor " + name + ".");
    return *tensor;
  }

  // `target` must stay where it is until the jobs have run.
  void matrix(const TensorInfo& tensor, PackedMatrix& target) {
    const Format format = known_format(tensor);
    const Packing packing = exact ? Packing::kFloat32 : natural_packing(format);
    const uint32_t rows = static_cast<uint32_t>(tensor.shape[1]);
    const uint32_t cols = static_cast<uint32_t>(tensor.shape[0]);
    const size_t size = kernels.packed_bytes(packing, rows, cols);
    if (size == 0) {
      throw EngineError(ErrorCode::kModelFormatUnsupported,
                        "The tensor " + tensor.name + " (" + shape_text(cols, rows) + ") cannot be packed.");
    }
    target = {packing, rows, cols, nullptr};
    jobs.push_back({&tensor, format, bytes, &target});
    bytes += (size + kKernelAlignment - 1) / kKernelAlignment * kKernelAlignment;
  }

  AlignedArray<float> vector(const TensorInfo& tensor) {
    std::vector<uint8_t> raw(*tensor.bytes);
    source.read(tensor, raw);
    AlignedArray<float> values = aligned_array<float>(tensor.shape[0]);
    kernels.embed_row(known_format(tensor), raw.data(), static_cast<uint32_t>(tensor.shape[0]), values.get());
    return values;
  }

  // A tensor that nobody asked for means a network that this engine would compute wrongly.
  void check_all_used() const {
    for (const TensorInfo& tensor : source.tensors()) {
      if (used.contains(tensor.name)) continue;
      throw EngineError(ErrorCode::kModelArchitectureUnsupported,
                        "The model file has the tensor " + tensor.name +
                            ", which is no part of the Llama family as this engine knows it.");
    }
  }
};

Weights::Weights(const ModelSource& source, const ModelConfig& config, const Kernels& kernels, bool exact,
                 const WeightMemoryOptions& options)
    : embedding_cols_(config.embedding), layers_(config.layers) {
  Plan plan{source, kernels, exact, {}, {}, 0};
  const uint64_t width = config.embedding;
  const uint64_t queries = uint64_t{config.heads} * config.head_dim;
  const uint64_t keys = uint64_t{config.kv_heads} * config.head_dim;
  const auto vector = [&](const TensorInfo& tensor) {
    vectors_.push_back(plan.vector(tensor));
    return vectors_.back().get();
  };
  for (uint32_t l = 0; l < config.layers; ++l) {
    const std::string prefix = "blk." + std::to_string(l) + ".";
    LayerWeights& layer = layers_[l];
    layer.attention_norm = vector(plan.need(prefix + "attn_norm.weight", width, 1));
    layer.feed_forward_norm = vector(plan.need(prefix + "ffn_norm.weight", width, 1));
    plan.matrix(plan.need(prefix + "attn_q.weight", width, queries), layer.query);
    plan.matrix(plan.need(prefix + "attn_k.weight", width, keys), layer.key);
    plan.matrix(plan.need(prefix + "attn_v.weight", width, keys), layer.value);
    plan.matrix(plan.need(prefix + "attn_output.weight", queries, width), layer.attention_out);
    plan.matrix(plan.need(prefix + "ffn_gate.weight", width, config.feed_forward), layer.gate);
    plan.matrix(plan.need(prefix + "ffn_up.weight", width, config.feed_forward), layer.up);
    plan.matrix(plan.need(prefix + "ffn_down.weight", config.feed_forward, width), layer.down);
  }
  output_norm_ = vector(plan.need("output_norm.weight", width, 1));
  if (const TensorInfo* factors = plan.find("rope_freqs.weight", config.head_dim / 2, 1)) {
    rope_factors_ = vector(*factors);
  }
  const TensorInfo& embedding = plan.need("token_embd.weight", width, config.vocabulary);
  // Without a head of its own a model reads its embeddings backwards.
  const TensorInfo* head = plan.find("output.weight", width, config.vocabulary);
  plan.matrix(head ? *head : embedding, head_);
  plan.check_all_used();

  embedding_format_ = known_format(embedding);
  embedding_row_bytes_ = format_row_bytes(embedding_format_, config.embedding);
  const PackPlan packing{std::move(plan.jobs), plan.bytes, &embedding};
  memory_ = WeightMemory(source, kernels, packing, options);
  for (const PackJob& job : packing.jobs) job.target->data = memory_.packed() + job.packed_offset;
}

void Weights::embed(const Kernels& kernels, uint32_t token, float* out) const {
  kernels.embed_row(embedding_format_, memory_.embedding() + size_t{token} * embedding_row_bytes_,
                    embedding_cols_, out);
}

}  // namespace streamserve
