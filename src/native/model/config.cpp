#include "model/config.h"

#include <cmath>
#include <optional>

#include "error.h"

namespace streamserve {
namespace {

// No model comes near; keeps every product of two of them far from overflow.
constexpr uint64_t kMostExtent = 1 << 24;
constexpr uint32_t kMostLayers = 1024;
constexpr uint32_t kMostExperts = 1024;
// What the attention kernel takes.
constexpr uint32_t kMostHeadDim = 256;
constexpr uint32_t kHeadDimStep = 16;

[[noreturn]] void unsupported(const std::string& what) {
  throw EngineError(ErrorCode::kModelArchitectureUnsupported,
                    "The model file asks for " + what + "; this engine runs " + known_families() + ".");
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

void read_experts(const Reader& reader, ModelConfig& config) {
  const uint64_t experts = reader.optional("expert_count").value_or(0);
  if (experts == 0) {
    if (config.family->experts == Presence::kAlways) invalid("expert_count is missing");
    config.feed_forward = reader.count("feed_forward_length");
    return;
  }
  if (config.family->experts == Presence::kNever) {
    unsupported("a mixture of experts in the architecture " + config.architecture);
  }
  if (reader.optional("expert_shared_count").value_or(0) > 0) unsupported("experts that all tokens share");
  config.experts = reader.count("expert_count");
  config.experts_used = reader.count("expert_used_count");
  if (config.experts > kMostExperts || config.experts_used > config.experts) {
    invalid(std::to_string(config.experts_used) + " of " + std::to_string(config.experts) +
            " experts cannot be used");
  }
  const auto own = reader.optional("expert_feed_forward_length");
  config.feed_forward = reader.count(own ? "expert_feed_forward_length" : "feed_forward_length");
}

double positive(const Reader& reader, const std::string& key, double otherwise) {
  const double value = reader.real(key).value_or(otherwise);
  if (!std::isfinite(value) || value <= 0) invalid(key + " is not a positive number");
  return value;
}

// 0 where neither the file nor the family has one.
float soft_cap(const Reader& reader, const std::string& key, float otherwise) {
  const double value = reader.real(key).value_or(otherwise);
  if (!std::isfinite(value) || value < 0) invalid(key + " is not a cap");
  return static_cast<float>(value);
}

Rope read_rope(const Reader& reader, const ModelConfig& config) {
  Rope rope;
  rope.base = positive(reader, "rope.freq_base", rope.base);
  rope.attention_factor = positive(reader, "rope.scaling.attn_factor", 1);
  rope.original_context = reader.count("rope.scaling.original_context_length", config.context);
  const std::string scaling = reader.text("rope.scaling.type").value_or("none");
  if (scaling == "none" || (scaling == "longrope" && config.family->long_rope)) return rope;
  rope.factor = positive(reader, "rope.scaling.factor", 1);
  if (scaling == "linear") {
    rope.scaling = RopeScaling::kLinear;
  } else if (scaling == "yarn") {
    rope.scaling = RopeScaling::kYarn;
    rope.fast_turns = positive(reader, "rope.scaling.yarn_beta_fast", rope.fast_turns);
    rope.slow_turns = positive(reader, "rope.scaling.yarn_beta_slow", rope.slow_turns);
    for (const char* key : {"rope.scaling.yarn_log_multiplier", "rope.scaling.yarn_ext_factor",
                            "rope.scaling.yarn_attn_factor"}) {
      if (reader.real(key)) unsupported(std::string("YaRN with ") + key);
    }
    if (rope.factor > 1) rope.attention_factor *= 1 + 0.1 * std::log(rope.factor);
  } else {
    unsupported("RoPE scaling \"" + scaling + "\"");
  }
  return rope;
}

uint32_t read_rotated(const Reader& reader, const ModelConfig& config) {
  const uint32_t rotated = reader.count("rope.dimension_count", config.head_dim);
  if (rotated > config.head_dim) {
    invalid("it rotates " + std::to_string(rotated) + " of " + std::to_string(config.head_dim) +
            " dimensions of a head");
  }
  if (rotated % kHeadDimStep != 0) {
    unsupported("rotation of " + std::to_string(rotated) +
                " dimensions of a head (a multiple of 16 is needed)");
  }
  return rotated;
}

// Window and rotation of each layer.
void read_kinds(const Reader& reader, ModelConfig& config) {
  const Family& family = *config.family;
  config.kinds.resize(config.layers);
  config.ropes.push_back(read_rope(reader, config));
  const uint64_t window = reader.optional("attention.sliding_window").value_or(family.default_window);
  // A window that holds the whole context changes nothing.
  if (window > 0 && window < config.context && !family.windows) {
    unsupported(std::string("sliding-window attention in the architecture ") + family.architecture);
  }
  const bool local_rope = family.local_rope_base > 0 && window > 0;
  if (local_rope) {
    Rope local;
    local.base = positive(reader, "rope.freq_base_swa", family.local_rope_base);
    config.ropes.push_back(local);
  }
  if (window == 0) return;
  const uint64_t period = reader.optional("attention.sliding_window_pattern").value_or(family.window_period);
  for (uint32_t l = 0; l < config.layers; ++l) {
    if (period > 0 && l % period == period - 1) continue;
    config.kinds[l].window = window < config.context ? static_cast<uint32_t>(window) : 0;
    config.kinds[l].rope = local_rope ? 1 : 0;
  }
}

void read_scales(const Reader& reader, ModelConfig& config) {
  const Family& family = *config.family;
  if (family.scaled_embedding) config.embedding_scale = std::sqrt(static_cast<float>(config.embedding));
  const bool wide = family.wide_scale_layers > 0 && config.layers == family.wide_scale_layers;
  const uint32_t size = wide ? config.embedding / config.heads : config.head_dim;
  config.attention_scale = 1.0F / std::sqrt(static_cast<float>(size));
  config.attention_cap = soft_cap(reader, "attn_logit_softcapping", family.default_attention_cap);
  config.logit_cap = soft_cap(reader, "final_logit_softcapping", family.default_logit_cap);
}

}  // namespace

ModelConfig read_config(const ModelSource& source) {
  ModelConfig config;
  const auto architecture = source.string_value("general.architecture");
  if (!architecture) invalid("general.architecture is missing");
  config.family = find_family(*architecture);
  if (!config.family) unsupported("the architecture \"" + *architecture + "\"");
  config.architecture = *architecture;
  const Reader reader(source, *architecture + ".");
  config.layers = reader.count("block_count");
  if (config.layers > kMostLayers) invalid("block_count is " + std::to_string(config.layers));
  config.embedding = reader.count("embedding_length");
  read_experts(reader, config);
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
  config.rotated = read_rotated(reader, config);
  read_kinds(reader, config);
  read_scales(reader, config);

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
