// The hub's config.json in GGUF's terms.
#pragma once

#include <string>

#include "json/json.h"
#include "safetensors/family.h"
#include "source/model_source.h"

namespace streamserve {

// Adds metadata under GGUF's keys, and the rotation's divisors where the configuration asks for them, to
// `source`. `path` names the file in errors. Throws `model_architecture_unsupported`, naming what is not
// known here, or `model_file_invalid`.
const HubFamily& add_hub_config(const Json& config, const std::string& path, ModelSource& source);

}  // namespace streamserve
