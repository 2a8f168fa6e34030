#include "safetensors/config.h"

#include <cmath>
#include <numbers>
#include <optional>

#include "error.h"

namespace streamserve {
namespace {

constexpr double kUsualRopeBase = 10000;
// Bounds what the divisors of a hostile head size may take.
constexpr uint64_t kMostHeadDim = 1 << 16;
constexpr double kGemmaHeadDim = 256;

class Translation {
 public:
  Translation(const Json& config, const std::string& path, ModelSource& source)
      : config_(config), path_(path), source_(source) {}

  const HubFamily& run() {
    const HubFamily& family = find_family();
    add("general.architecture", std::string(family.architecture));
    prefix_ = std::string(family.architecture) + ".";
    need("num_hidden_layers", "block_count");
    need("max_position_embeddings", "context_length");
    need("hidden_size", "embedding_length");
    need("intermediate_size", "feed_forward_length");
    need("num_attention_heads", "attention.head_count");
    take("num_key_value_heads", "attention.head_count_kv");
    take("head_dim", "attention.key_length");
    take("head_dim", "attention.value_length");
    if (!real(config_, "rms_norm_eps")) invalid("has no rms_norm_eps");
    add(prefix_ + "attention.layer_norm_rms_epsilon", *real(config_, "rms_norm_eps"));
    add_window(family);
    if (!family.experts.empty()) add_experts(family);
    add_rope(family);
    if (family.architecture == "gemma3") add_gemma();
    return family;
  }

 private:
  const HubFamily& find_family() const {
    const Json* type = config_.member("model_type");
    if (!type || !type->text()) invalid("has no model_type");
    const HubFamily* family = find_hub_family(*type->text());
    if (!family) {
      throw EngineError(ErrorCode::kModelArchitectureUnsupported,
                        path_ + " is of the model type \"" + *type->text() +
                            "\"; safetensors models of these can be read: " + hub_families() + ".");
    }
    if (const Json* quantised = config_.member("quantization_config")) {
      const Json* method = quantised->member("quant_method");
      throw EngineError(ErrorCode::kModelFormatUnsupported,
                        path_ + " says that the weights are quantised" +
                            (method && method->text() ? " by " + *method->text() : "") +
                            "; safetensors in F32, F16 and BF16 are read.");
    }
    for (const char* key : {"hidden_act", "hidden_activation"}) {
      const Json* activation = config_.member(key);
      if (activation && activation->text() && *activation->text() != family->activation) {
        unsupported(std::string(key) + " \"" + *activation->text() + "\" in a model of type " +
                    std::string(family->model_type));
      }
    }
    return *family;
  }

  void add_window(const HubFamily& family) {
    const Json* use = config_.member("use_sliding_window");
    const bool unused = use && use->boolean() && !*use->boolean();
    if (family.model_type.starts_with("qwen")) {
      if (use && use->boolean() && *use->boolean()) unsupported("use_sliding_window");
      return;
    }
    if (!unused) take("sliding_window", "attention.sliding_window");
  }

  void add_experts(const HubFamily& family) {
    need(std::string(family.experts).c_str(), "expert_count");
    need("num_experts_per_tok", "expert_used_count");
    if (family.architecture != "qwen3moe") return;
    need("moe_intermediate_size", "expert_feed_forward_length");
    // As GGUF's architecture has it: a mixture in every layer, whose chosen experts' shares add up to one.
    const Json* shares = config_.member("norm_topk_prob");
    if (!shares || !shares->boolean() || !*shares->boolean()) unsupported("norm_topk_prob false");
    if (whole("decoder_sparse_step").value_or(1) != 1) unsupported("a decoder_sparse_step other than 1");
    const Json* dense = config_.member("mlp_only_layers");
    if (dense && dense->array() && !dense->array()->empty()) unsupported("mlp_only_layers");
  }

  // Newer configurations keep all that concerns the rotation under one key, for Gemma 3 by kind of layer.
  const Json* rope_parameters(const HubFamily& family) {
    const Json* parameters = config_.member("rope_parameters");
    const Json* full = parameters ? parameters->member("full_attention") : nullptr;
    if (!full) return parameters;
    if (family.architecture != "gemma3") unsupported("rope_parameters by kind of layer");
    if (const Json* local = parameters->member("sliding_attention")) {
      if (rope_kind(*local) != "default") unsupported("a scaled rotation in layers with a window");
      if (const auto base = real(*local, "rope_theta")) add(prefix_ + "rope.freq_base_swa", *base);
    }
    return full;
  }

  static std::string rope_kind(const Json& scaling) {
    const Json* type = scaling.member("rope_type");
    if (!type) type = scaling.member("type");
    return type && type->text() ? *type->text() : "default";
  }

  void add_rope(const HubFamily& family) {
    const Json* parameters = rope_parameters(family);
    const Json& base_at = parameters && parameters->member("rope_theta") ? *parameters : config_;
    const double base = real(base_at, "rope_theta").value_or(kUsualRopeBase);
    add(prefix_ + "rope.freq_base", base);
    const bool newer = parameters && parameters->member("partial_rotary_factor");
    const double part = real(newer ? *parameters : config_, "partial_rotary_factor").value_or(1);
    if (!(part > 0 && part <= 1)) invalid("has a partial_rotary_factor out of range");
    const uint64_t heads = *whole("num_attention_heads");
    if (heads == 0) invalid("has no attention heads");
    const uint64_t head_dim = whole("head_dim").value_or(*whole("hidden_size") / heads);
    if (head_dim > kMostHeadDim) invalid("has heads of " + std::to_string(head_dim) + " dimensions");
    const uint64_t turned = static_cast<uint64_t>(static_cast<double>(head_dim) * part);
    add(prefix_ + "rope.dimension_count", turned);
    const Json* scaling = parameters ? parameters : config_.member("rope_scaling");
    if (!scaling) return;
    const std::string kind = rope_kind(*scaling);
    if (kind == "default") return;
    if (kind == "longrope" || kind == "su") {
      add_longrope(*scaling, turned);
      return;
    }
    const double factor = real(*scaling, "factor").value_or(0);
    if (!(factor > 0)) invalid("has a rotation scaled by no factor");
    if (kind == "llama3") {
      add_llama3(*scaling, base, turned, factor);
    } else if (kind == "linear" || kind == "yarn") {
      add(prefix_ + "rope.scaling.type", kind);
      add(prefix_ + "rope.scaling.factor", factor);
      if (const Json* original = scaling->member("original_max_position_embeddings")) {
        if (!original->whole()) invalid("has an odd original_max_position_embeddings");
        add(prefix_ + "rope.scaling.original_context_length", *original->whole());
      }
      if (kind == "yarn") add_yarn(*scaling, factor);
    } else {
      unsupported("RoPE scaling \"" + kind + "\"");
    }
  }

  // What a YaRN rotation may set besides its factor.
  void add_yarn(const Json& scaling, double factor) {
    for (const char* key : {"mscale", "mscale_all_dim"}) {
      if (scaling.member(key)) unsupported(std::string("YaRN with ") + key);
    }
    const Json* truncate = scaling.member("truncate");
    if (truncate && truncate->boolean() && !*truncate->boolean()) unsupported("YaRN with truncate false");
    if (const auto fast = real(scaling, "beta_fast")) add(prefix_ + "rope.scaling.yarn_beta_fast", *fast);
    if (const auto slow = real(scaling, "beta_slow")) add(prefix_ + "rope.scaling.yarn_beta_slow", *slow);
    // Stands for the usual one of this factor, which GGUF's is multiplied by.
    if (const auto attention = real(scaling, "attention_factor")) {
      add(prefix_ + "rope.scaling.attn_factor", *attention / (factor > 1 ? 1 + 0.1 * std::log(factor) : 1));
    }
  }

  // Slow rotations are slowed further by the factor, fast ones left alone, those between by something
  // between; as GGUF files do, the divisors are given as a tensor.
  void add_llama3(const Json& scaling, double base, uint64_t head_dim, double factor) {
    const double slow = real(scaling, "low_freq_factor").value_or(1);
    const double fast = real(scaling, "high_freq_factor").value_or(4);
    const double context = real(scaling, "original_max_position_embeddings").value_or(8192);
    if (!(fast > slow && slow > 0 && context > 0 && base > 0))
      invalid("has a llama3 rotation that makes no sense");
    std::vector<float> divisors;
    for (uint64_t i = 0; i < head_dim / 2; ++i) {
      const double turns = context *
                           std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim)) /
                           (2 * std::numbers::pi);
      const double share = (turns - slow) / (fast - slow);
      const double divisor = share >= 1 ? 1 : share <= 0 ? factor : 1 / ((1 - share) / factor + share);
      divisors.push_back(static_cast<float>(divisor));
    }
    source_.add_computed("rope_freqs.weight", std::move(divisors));
  }

  // Phi-3: divisors for contexts within the original one and beyond it, and a factor of attention that makes
  // up for the longer ones.
  void add_longrope(const Json& scaling, uint64_t rotated) {
    const double context = static_cast<double>(*whole("max_position_embeddings"));
    const Json* newer = scaling.member("original_max_position_embeddings");
    const std::optional<uint64_t> original =
        newer ? newer->whole() : whole("original_max_position_embeddings");
    if (!original || *original < 2) invalid("has no original_max_position_embeddings");
    const double longer = context / static_cast<double>(*original);
    add(prefix_ + "rope.scaling.type", std::string("longrope"));
    add(prefix_ + "rope.scaling.original_context_length", *original);
    const double factor =
        longer <= 1 ? 1 : std::sqrt(1 + std::log(longer) / std::log(static_cast<double>(*original)));
    add(prefix_ + "rope.scaling.attn_factor", factor);
    add_divisors(scaling, "long_factor", "rope_factors_long.weight", rotated);
    add_divisors(scaling, "short_factor", "rope_factors_short.weight", rotated);
  }

  void add_divisors(const Json& scaling, const char* from, const char* to, uint64_t rotated) {
    const Json* given = scaling.member(from);
    if (!given || !given->array() || given->array()->size() != rotated / 2) {
      invalid(std::string("has no ") + from + " of " + std::to_string(rotated / 2) + " numbers");
    }
    std::vector<float> divisors;
    for (const Json& divisor : *given->array()) {
      if (!divisor.number()) invalid(std::string("has in ") + from + " something that is no number");
      divisors.push_back(static_cast<float>(*divisor.number()));
    }
    source_.add_computed(to, std::move(divisors));
  }

  void add_gemma() {
    take("sliding_window_pattern", "attention.sliding_window_pattern");
    const Json* kinds = config_.member("layer_types");
    if (kinds && kinds->array()) add_pattern(*kinds->array());
    const std::optional<double> local = real(config_, "rope_local_base_freq");
    if (local && !source_.find(prefix_ + "rope.freq_base_swa")) {
      add(prefix_ + "rope.freq_base_swa", *local);
    }
    const double head_dim = real(config_, "head_dim").value_or(kGemmaHeadDim);
    if (real(config_, "query_pre_attn_scalar").value_or(head_dim) != head_dim) {
      unsupported("a query_pre_attn_scalar other than head_dim");
    }
    for (const char* key : {"attn_logit_softcapping", "final_logit_softcapping"}) {
      if (config_.member(key)) unsupported(key);
    }
  }

  // Newer configurations list the layers: each last one of a period attends to everything.
  void add_pattern(const Json::Array& kinds) {
    const auto full = [&](size_t i) {
      const std::string* kind = kinds[i].text();
      return kind && *kind == "full_attention";
    };
    size_t period = 1;
    while (period <= kinds.size() && !full(period - 1)) ++period;
    for (size_t i = 0; i < kinds.size(); ++i) {
      if (full(i) != (i % period == period - 1)) unsupported("layer_types without a period");
    }
    // A period beyond all layers: none attends to everything.
    add(prefix_ + "attention.sliding_window_pattern", uint64_t{period});
  }

  void need(const char* from, const char* to) {
    if (!whole(from)) invalid(std::string("has no ") + from);
    take(from, to);
  }
  void take(const char* from, const char* to) {
    if (const std::optional<uint64_t> value = whole(from)) add(prefix_ + to, *value);
  }
  std::optional<uint64_t> whole(const char* key) const {
    const Json* value = config_.member(key);
    if (!value) return std::nullopt;
    if (!value->whole()) invalid(std::string("gives ") + key + " a value that is no whole number");
    return value->whole();
  }
  std::optional<double> real(const Json& from, const char* key) const {
    const Json* value = from.member(key);
    if (!value) return std::nullopt;
    if (!value->number()) invalid(std::string("gives ") + key + " a value that is no number");
    return *value->number();
  }
  void add(std::string key, uint64_t value) {
    source_.add_metadata(std::move(key), value, MetadataType::kUint32);
  }
  // Rounded to what a GGUF file would hold, so that both forms of a model compute the same.
  void add(std::string key, double value) {
    source_.add_metadata(std::move(key), double{static_cast<float>(value)}, MetadataType::kFloat32);
  }
  void add(std::string key, std::string value) {
    source_.add_metadata(std::move(key), std::move(value), MetadataType::kString);
  }

  [[noreturn]] void invalid(const std::string& what) const {
    throw EngineError(ErrorCode::kModelFileInvalid, path_ + " " + what + ".");
  }
  [[noreturn]] void unsupported(const std::string& what) const {
    throw EngineError(ErrorCode::kModelArchitectureUnsupported,
                      path_ + " asks for " + what + ", which this engine does not know.");
  }

  const Json& config_;
  const std::string& path_;
  ModelSource& source_;
  std::string prefix_;
};

}  // namespace

const HubFamily& add_hub_config(const Json& config, const std::string& path, ModelSource& source) {
  return Translation(config, path, source).run();
}

}  // namespace streamserve
