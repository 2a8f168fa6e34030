// The one way to a model on disk.
#pragma once

#include <string>

#include "source/model_source.h"

namespace streamserve {

// Reads and checks the headers of the model at `path`: a GGUF file, or safetensors (safetensors/model.h).
// Throws the model_* errors.
ModelSource open_model_source(const std::string& path);

}  // namespace streamserve
