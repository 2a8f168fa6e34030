#include "model/family.h"

namespace streamserve {
namespace {

constexpr Family kFamilies[] = {
    {.architecture = "llama",
     .models = "Llama, SmolLM2, Mistral, Mixtral",
     .rope_style = RopeStyle::kInterleaved,
     .projection_bias = Presence::kOptional,
     .other_bias = Presence::kOptional,
     .windows = true,
     .experts = Presence::kOptional},
    {.architecture = "qwen2", .models = "Qwen2, Qwen2.5", .projection_bias = Presence::kAlways},
    {.architecture = "qwen3", .models = "Qwen3", .head_norms = true},
    {.architecture = "qwen3moe",
     .models = "Qwen3 mixtures",
     .head_norms = true,
     .experts = Presence::kAlways},
    {.architecture = "phi3",
     .models = "Phi-3, Phi-3.5, Phi-4",
     .fused = true,
     .windows = true,
     .long_rope = true},
    {.architecture = "gemma", .models = "Gemma", .gate = Gate::kGeluTanh, .scaled_embedding = true},
    {.architecture = "gemma2",
     .models = "Gemma 2",
     .gate = Gate::kGeluTanh,
     .scaled_embedding = true,
     .post_norms = true,
     .windows = true,
     .window_period = 2,
     .default_window = 4096,
     .default_attention_cap = 50,
     .default_logit_cap = 30,
     .wide_scale_layers = 46},
    {.architecture = "gemma3",
     .models = "Gemma 3",
     .gate = Gate::kGeluTanh,
     .scaled_embedding = true,
     .head_norms = true,
     .post_norms = true,
     .windows = true,
     .window_period = 6,
     .local_rope_base = 10000,
     .wide_scale_layers = 62},
};

}  // namespace

const Family* find_family(const std::string& architecture) {
  for (const Family& family : kFamilies) {
    if (architecture == family.architecture) return &family;
  }
  return nullptr;
}

std::string known_families() {
  std::string text;
  for (const Family& family : kFamilies) {
    text += std::string(text.empty() ? "" : ", ") + family.architecture + " (" + family.models + ")";
  }
  return text;
}

}  // namespace streamserve
