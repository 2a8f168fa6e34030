#include "safetensors/family.h"

#include <algorithm>
#include <charconv>
#include <utility>

namespace streamserve {
namespace {

constexpr HubFamily kFamilies[] = {
    {"llama", "llama", "silu", true, false, false},
    {"mistral", "llama", "silu", true, false, false},
    {"qwen2", "qwen2", "silu", false, false, false},
    {"qwen3", "qwen3", "silu", false, false, false},
    {"gemma3_text", "gemma3", "gelu_pytorch_tanh", false, true, true},
    {"phi3", "phi3", "silu", false, false, false},
    {"mixtral", "llama", "silu", true, false, false, "num_local_experts"},
    {"qwen3_moe", "qwen3moe", "silu", false, false, false, "num_experts"},
};

using Names = std::pair<std::string_view, std::string_view>;

constexpr Names kModelTensors[] = {
    {"model.embed_tokens", "token_embd"},
    {"model.norm", "output_norm"},
    {"lm_head", "output"},
};

constexpr Names kLayerTensors[] = {
    {"input_layernorm", "attn_norm"},    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},      {"self_attn.v_proj", "attn_v"},
    {"self_attn.qkv_proj", "attn_qkv"},  {"self_attn.o_proj", "attn_output"},
    {"self_attn.q_norm", "attn_q_norm"}, {"self_attn.k_norm", "attn_k_norm"},
    {"mlp.gate_proj", "ffn_gate"},       {"mlp.up_proj", "ffn_up"},
    {"mlp.gate_up_proj", "ffn_up"},      {"mlp.down_proj", "ffn_down"},
    {"mlp.gate", "ffn_gate_inp"},        {"block_sparse_moe.gate", "ffn_gate_inp"},
};

// Behind the number of the expert.
constexpr Names kExpertTensors[] = {
    {"gate_proj", "ffn_gate_exps"}, {"up_proj", "ffn_up_exps"}, {"down_proj", "ffn_down_exps"},
    {"w1", "ffn_gate_exps"},        {"w3", "ffn_up_exps"},      {"w2", "ffn_down_exps"},
};

constexpr Names kTwoNorms[] = {{"post_attention_layernorm", "ffn_norm"}};
constexpr Names kFourNorms[] = {
    {"post_attention_layernorm", "post_attention_norm"},
    {"pre_feedforward_layernorm", "ffn_norm"},
    {"post_feedforward_layernorm", "post_ffw_norm"},
};

// Takes a number and a dot off the beginning of `text`; nothing, and `text` as it was, if it begins
// otherwise.
std::optional<uint32_t> take_number(std::string_view& text) {
  uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end == text.data() + text.size() || *end != '.') return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()) + 1);
  return number;
}

// Takes what comes before the number of an expert off `text`, and the number.
std::optional<uint32_t> take_expert(std::string_view& text) {
  for (const std::string_view prefix : {"mlp.experts.", "block_sparse_moe.experts."}) {
    if (!text.starts_with(prefix)) continue;
    text.remove_prefix(prefix.size());
    return take_number(text);
  }
  return std::nullopt;
}

template <size_t Count>
const Names* find(const Names (&table)[Count], std::string_view name) {
  const auto* found =
      std::find_if(table, table + Count, [&](const Names& entry) { return entry.first == name; });
  return found == table + Count ? nullptr : found;
}

}  // namespace

const HubFamily* find_hub_family(std::string_view model_type) {
  for (const HubFamily& family : kFamilies) {
    if (family.model_type == model_type) return &family;
  }
  return nullptr;
}

std::string hub_families() {
  std::string names;
  for (const HubFamily& family : kFamilies) {
    names += (names.empty() ? "" : ", ") + std::string(family.model_type);
  }
  return names;
}

std::optional<GgufName> gguf_tensor_name(const HubFamily& family, std::string_view name) {
  const size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const std::string_view kind = name.substr(dot);
  if (kind != ".weight" && kind != ".bias") return std::nullopt;
  std::string_view stem = name.substr(0, dot);
  if (const Names* entry = find(kModelTensors, stem)) {
    return GgufName{std::string(entry->second) + std::string(kind)};
  }
  constexpr std::string_view kLayers = "model.layers.";
  if (!stem.starts_with(kLayers)) return std::nullopt;
  stem.remove_prefix(kLayers.size());
  const std::optional<uint32_t> layer = take_number(stem);
  if (!layer) return std::nullopt;
  const std::optional<uint32_t> expert = family.experts.empty() ? std::nullopt : take_expert(stem);
  const Names* entry = expert ? find(kExpertTensors, stem) : find(kLayerTensors, stem);
  if (!entry && !expert) entry = family.norms_behind ? find(kFourNorms, stem) : find(kTwoNorms, stem);
  if (!entry) return std::nullopt;
  return GgufName{"blk." + std::to_string(*layer) + "." + std::string(entry->second) + std::string(kind),
                  expert};
}

}  // namespace streamserve
