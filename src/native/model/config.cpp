#include "model/config.h"

#include <cmath>
#include <optional>

#include "error.h"

namespace streamserve {
namespace {

// No model comes near; keeps every product of two of them far from overflow.
constexpr uint64_t kMostExtent = 1 << 24;
constexpr uint32_t kMostLayers = 1024;
// What the attention kernel takes.
constexpr uint32_t kMostHeadDim = 256;
constexpr uint32_t kHeadDimStep = 16;

[[noreturn]] void unsupported(const std::string& what) {
  throw EngineError(
      ErrorCode::kModelArchitectureUnsupported,
      "The model file asks for " + what +
          "; this engine runs the Llama family (Llama, SmolLM2, Mistral without sliding window).");
}

[[noreturn]] void invalid(const std::string& what) {
  throw EngineError(ErrorCode::kModelFileInvalid, "The model file is damaged or incomplete: " + what + ".");
}

class Reader {
 public:
  Reader(const ModelSource& source, std::string prefix) : source_(source), prefix_(std::move(prefix)) {}

  uint32_t count(const std::string& key, std::optional<uint64_t> otherwise = std::nullopt) const {
    const uint64_t value = optional(key).value_or(otherwise.value_or(0));
    if (value == 0 || value > kMostExtent) {
      invalid(prefix_ + key + (optional(key) ? " is " + std::to_string(value) : " is missing"));
    }
    return static_cast<uint32_t>(value);
  }
  std::optional<uint64_t> optional(const std::string& key) const {
    return source_.unsigned_value(prefix_ + key);
  }
  std::optional<double> real(const std::string& key) const { return source_.float_value(prefix_ + key); }
  std::optional<std::string> text(const std::string& key) const {
    return source_.string_value(prefix_ + key);
  }

 private:
  const ModelSource& source_;
  const std::string prefix_;
};

void read_rope(const Reader& reader, ModelConfig& config) {
  config.rope_base = reader.real("rope.freq_base").value_or(10000.0);
  if (!std::isfinite(config.rope_base) || config.rope_base <= 0)
    invalid("rope.freq_base is not a positive number");
  if (const auto dimensions = reader.optional("rope.dimension_count");
      dimensions && *dimensions != config.head_dim) {
    unsupported("rotation of " + std::to_string(*dimensions) + " of " + std::to_string(config.head_dim) +
                " dimensions of a head");
  }
  const std::string scaling = reader.text("rope.scaling.type").value_or("none");
  if (scaling == "linear") {
    config.rope_scale = reader.real("rope.scaling.factor").value_or(1.0);
    if (!std::isfinite(config.rope_scale) || config.rope_scale <= 0)
      invalid("rope.scaling.factor is not positive");
  } else if (scaling != "none") {
    unsupported("RoPE scaling \"" + scaling + "\"");
  }
}

}  // namespace

ModelConfig read_config(const ModelSource& source) {
  ModelConfig config;
  const auto architecture = source.string_value("general.architecture");
  if (!architecture) invalid("general.architecture is missing");
  if (*architecture != "llama") unsupported("the architecture \"" + *architecture + "\"");
  config.architecture = *architecture;
  const Reader reader(source, *architecture + ".");
  config.layers = reader.count("block_count");
  if (config.layers > kMostLayers) invalid("block_count is " + std::to_string(config.layers));
  config.embedding = reader.count("embedding_length");
  config.feed_forward = reader.count("feed_forward_length");
  config.heads = reader.count("attention.head_count");
  config.kv_heads = reader.count("attention.head_count_kv", config.heads);
  if (config.heads % config.kv_heads != 0) {
    invalid(std::to_string(config.heads) + " heads cannot share " + std::to_string(config.kv_heads) +
            " KV heads");
  }
  config.head_dim = reader.count("attention.key_length", config.embedding / config.heads);
  if (reader.count("attention.value_length", config.head_dim) != config.head_dim) {
    unsupported("values of another length than keys");
  }
  if (config.head_dim % kHeadDimStep != 0 || config.head_dim > kMostHeadDim) {
    unsupported("heads of " + std::to_string(config.head_dim) +
                " dimensions (a multiple of 16 up to 256 is needed)");
  }
  config.context = reader.count("context_length");
  const auto epsilon = reader.real("attention.layer_norm_rms_epsilon");
  if (!epsilon || !(*epsilon > 0) || !(*epsilon < 1))
    invalid("attention.layer_norm_rms_epsilon is missing or odd");
  config.norm_epsilon = static_cast<float>(*epsilon);
  if (reader.optional("expert_count").value_or(0) > 0) unsupported("a mixture of experts");
  if (reader.optional("attention.sliding_window").value_or(0) > 0) unsupported("sliding-window attention");
  read_rope(reader, config);

  const TensorInfo* embedding = source.tensor("token_embd.weight");
  if (!embedding || embedding->dimensions != 2)
    invalid("the tensor token_embd.weight is missing or not a matrix");
  if (embedding->shape[0] != config.embedding || embedding->shape[1] > kMostExtent) {
    invalid("token_embd.weight has the wrong shape");
  }
  config.vocabulary = static_cast<uint32_t>(embedding->shape[1]);
  return config;
}

}  // namespace streamserve
