// Models as the Hugging Face hub has them: config.json beside one or more .safetensors files.
#pragma once

#include <string>

#include "source/model_source.h"

namespace streamserve {

// A directory, or a file whose name ends in .safetensors.
bool is_safetensors_model(const std::string& path);

// Reads and checks configuration and headers; tensors get GGUF's names and row order. A directory holds
// model.safetensors, or model.safetensors.index.json and the files that it names. Throws `model_not_found`,
// `model_file_truncated`, `model_file_invalid`, `model_architecture_unsupported` or
// `model_format_unsupported`.
ModelSource read_safetensors_model(const std::string& path);

}  // namespace streamserve
