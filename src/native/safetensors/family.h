// The model families of config.json that have a counterpart in GGUF's terms.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "source/model_source.h"

namespace streamserve {

struct HubFamily {
  // `model_type` in config.json.
  std::string_view model_type;
  // GGUF's name.
  std::string_view architecture;
  // The activation of the feed-forward network that the architecture stands for.
  std::string_view activation;
  // GGUF keeps the rows of queries and keys interleaved, the hub in halves.
  bool interleaved_heads;
  // Norms are stored as the difference from one.
  bool norms_from_one;
  // Four norms a layer instead of two: `post_attention_layernorm` is the one behind the attention.
  bool norms_behind;
  // Where the configuration has the number of experts, of a mixture of them.
  std::string_view experts{};
};

// What a tensor is called in GGUF.
struct GgufName {
  std::string name;
  // GGUF keeps the matrices of all experts in one tensor, the hub apart: which expert's this is.
  std::optional<uint32_t> expert{};
};

// nullptr for a family that is not known here.
const HubFamily* find_hub_family(std::string_view model_type);
// All model types known, for messages.
std::string hub_families();

// GGUF's name of a tensor; nothing for one that GGUF has no name for.
std::optional<GgufName> gguf_tensor_name(const HubFamily& family, std::string_view name);

}  // namespace streamserve
