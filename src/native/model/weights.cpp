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
    case Format::kQ5_0:
    case Format::kQ5_1:
    case Format::kQ4_K:
    case Format::kQ5_K:
    case Format::kQ6_K:
    case Format::kIQ4_NL:
      return static_cast<Format>(tensor.format);
  }
  throw EngineError(ErrorCode::kModelFormatUnsupported,
                    "The model file keeps the tensor " + tensor.name + " as " + format_name(tensor.format) +
                        "; this engine reads F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K "
                        "and IQ4_NL.");
}

std::string shape_text(uint64_t cols, uint64_t rows, uint64_t depth) {
  const std::string text = std::to_string(cols) + " x " + std::to_string(rows);
  return depth == 1 ? text : text + " x " + std::to_string(depth);
}

std::string shape_text(const TensorInfo& tensor) {
  return shape_text(tensor.shape[0], tensor.shape[1], tensor.shape[2]);
}

}  // namespace

// Looks tensors up, checks them, and remembers what to pack where.
struct Weights::Plan {
  const ModelSource& source;
  const Family& family;
  const Kernels& kernels;
  const bool exact;
  std::vector<PackJob> jobs;
  std::unordered_set<std::string> used;
  size_t bytes = 0;

  const TensorInfo* find(const std::string& name, uint64_t cols, uint64_t rows, uint64_t depth = 1) {
    const TensorInfo* tensor = source.tensor(name);
    if (!tensor) return nullptr;
    if (tensor->shape[0] != cols || tensor->shape[1] != rows || tensor->shape[2] != depth ||
        tensor->shape[3] != 1) {
      throw EngineError(ErrorCode::kModelFileInvalid, "The tensor " + name + " is " + shape_text(*tensor) +
                                                          ", not " + shape_text(cols, rows, depth) + ".");
    }
    known_format(*tensor);
    used.insert(name);
    return tensor;
  }

  const TensorInfo& need(const std::string& name, uint64_t cols, uint64_t rows, uint64_t depth = 1) {
    const TensorInfo* tensor = find(name, cols, rows, depth);
    if (!tensor)
      throw EngineError(ErrorCode::kModelFileInvalid, "The model file has no tensor " + name + ".");
    return *tensor;
  }

  // The tensor's rows, `counts` of them for each target in order. The targets must stay where they are until
  // the jobs have run.
  void split(const TensorInfo& tensor, const std::vector<std::pair<uint64_t, PackedMatrix*>>& targets) {
    const Format format = known_format(tensor);
    const Packing packing = exact ? Packing::kFloat32 : natural_packing(format);
    const uint32_t cols = static_cast<uint32_t>(tensor.shape[0]);
    PackJob job{&tensor, format, {}};
    uint64_t first = 0;
    for (const auto& [count, target] : targets) {
      const uint32_t rows = static_cast<uint32_t>(count);
      const size_t size = kernels.packed_bytes(packing, rows, cols);
      if (size == 0) {
        throw EngineError(ErrorCode::kModelFormatUnsupported,
                          "The tensor " + tensor.name + " (" + shape_text(tensor) + ") cannot be packed.");
      }
      *target = {packing, rows, cols, nullptr};
      job.parts.push_back({first, bytes, target});
      bytes += (size + kKernelAlignment - 1) / kKernelAlignment * kKernelAlignment;
      first += count;
    }
    jobs.push_back(std::move(job));
  }

  void matrix(const TensorInfo& tensor, PackedMatrix& target) { split(tensor, {{tensor.shape[1], &target}}); }

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
                            ", which is no part of the architecture " + family.architecture +
                            " as this engine knows it.");
    }
  }
};

const float* Weights::keep(AlignedArray<float> vector) {
  vectors_.push_back(std::move(vector));
  return vectors_.back().get();
}

void Weights::plan_layer(Plan& plan, const ModelConfig& config, uint32_t index) {
  const Family& family = plan.family;
  const std::string prefix = "blk." + std::to_string(index) + ".";
  const uint64_t width = config.embedding;
  const uint64_t queries = uint64_t{config.heads} * config.head_dim;
  const uint64_t keys = uint64_t{config.kv_heads} * config.head_dim;
  const uint64_t feed = config.feed_forward;
  const auto vector = [&](const std::string& name, uint64_t size) {
    return keep(plan.vector(plan.need(prefix + name, size, 1)));
  };
  const auto bias = [&](const std::string& name, uint64_t size, Presence presence) -> const float* {
    if (presence == Presence::kNever) return nullptr;
    if (presence == Presence::kAlways) return vector(name, size);
    const TensorInfo* tensor = plan.find(prefix + name, size, 1);
    return tensor ? keep(plan.vector(*tensor)) : nullptr;
  };
  const auto linear = [&](const std::string& name, uint64_t cols, uint64_t rows, Presence biased,
                          Linear& to) {
    plan.matrix(plan.need(prefix + name + ".weight", cols, rows), to.weights);
    to.bias = bias(name + ".bias", rows, biased);
  };
  LayerWeights& layer = layers_[index];
  layer.attention_norm = vector("attn_norm.weight", width);
  layer.feed_forward_norm = vector("ffn_norm.weight", width);
  if (family.head_norms) {
    layer.query_norm = vector("attn_q_norm.weight", config.head_dim);
    layer.key_norm = vector("attn_k_norm.weight", config.head_dim);
  }
  if (family.post_norms) {
    layer.attention_post_norm = vector("post_attention_norm.weight", width);
    layer.feed_forward_post_norm = vector("post_ffw_norm.weight", width);
  }
  if (family.fused) {
    const TensorInfo& qkv = plan.need(prefix + "attn_qkv.weight", width, queries + 2 * keys);
    plan.split(qkv,
               {{queries, &layer.query.weights}, {keys, &layer.key.weights}, {keys, &layer.value.weights}});
  } else {
    linear("attn_q", width, queries, family.projection_bias, layer.query);
    linear("attn_k", width, keys, family.projection_bias, layer.key);
    linear("attn_v", width, keys, family.projection_bias, layer.value);
  }
  linear("attn_output", queries, width, family.other_bias, layer.attention_out);
  if (config.experts > 0) return plan_experts(plan, config, index);
  if (family.fused) {
    const TensorInfo& both = plan.need(prefix + "ffn_up.weight", width, 2 * feed);
    plan.split(both, {{feed, &layer.gate.weights}, {feed, &layer.up.weights}});
  } else {
    linear("ffn_gate", width, feed, family.other_bias, layer.gate);
    linear("ffn_up", width, feed, family.other_bias, layer.up);
  }
  linear("ffn_down", feed, width, family.other_bias, layer.down);
}

void Weights::plan_experts(Plan& plan, const ModelConfig& config, uint32_t index) {
  const std::string prefix = "blk." + std::to_string(index) + ".";
  LayerWeights& layer = layers_[index];
  layer.experts.resize(config.experts);
  plan.matrix(plan.need(prefix + "ffn_gate_inp.weight", config.embedding, config.experts), layer.router);
  const auto stack = [&](const char* name, uint64_t cols, uint64_t rows,
                         PackedMatrix ExpertWeights::*member) {
    const TensorInfo& tensor = plan.need(prefix + name, cols, rows, config.experts);
    std::vector<std::pair<uint64_t, PackedMatrix*>> targets;
    for (ExpertWeights& expert : layer.experts) targets.emplace_back(rows, &(expert.*member));
    plan.split(tensor, targets);
  };
  stack("ffn_gate_exps.weight", config.embedding, config.feed_forward, &ExpertWeights::gate);
  stack("ffn_up_exps.weight", config.embedding, config.feed_forward, &ExpertWeights::up);
  stack("ffn_down_exps.weight", config.feed_forward, config.embedding, &ExpertWeights::down);
  // They read the same packed activations.
  if (layer.experts[0].gate.packing != layer.experts[0].up.packing) {
    throw EngineError(ErrorCode::kModelFormatUnsupported,
                      "The tensors " + prefix + "ffn_gate_exps.weight and " + prefix +
                          "ffn_up_exps.weight are kept in formats that need different activations.");
  }
}

Weights::Weights(const ModelSource& source, const ModelConfig& config, const Kernels& kernels, bool exact,
                 const WeightMemoryOptions& options)
    : embedding_cols_(config.embedding), layers_(config.layers) {
  Plan plan{source, *config.family, kernels, exact, {}, {}, 0};
  const uint64_t width = config.embedding;
  const auto vector = [&](const TensorInfo& tensor) { return keep(plan.vector(tensor)); };
  for (uint32_t l = 0; l < config.layers; ++l) {
    plan_layer(plan, config, l);
    const LayerWeights& layer = layers_[l];
    branches_ = branches_ || !layer.experts.empty() || layer.attention_post_norm ||
                layer.feed_forward_post_norm || layer.attention_out.bias || layer.down.bias;
  }
  output_norm_ = vector(plan.need("output_norm.weight", width, 1));
  if (const TensorInfo* factors = plan.find("rope_freqs.weight", config.rotated / 2, 1)) {
    rope_factors_ = long_rope_factors_ = vector(*factors);
  } else if (plan.family.long_rope && source.tensor("rope_factors_long.weight")) {
    rope_factors_ = vector(plan.need("rope_factors_short.weight", config.rotated / 2, 1));
    long_rope_factors_ = vector(plan.need("rope_factors_long.weight", config.rotated / 2, 1));
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
  for (const PackJob& job : packing.jobs) {
    for (const PackPart& part : job.parts) part.target->data = memory_.packed() + part.packed_offset;
  }
}

void Weights::embed(const Kernels& kernels, uint32_t token, float* out) const {
  kernels.embed_row(embedding_format_, memory_.embedding() + size_t{token} * embedding_row_bytes_,
                    embedding_cols_, out);
}

}  // namespace streamserve
