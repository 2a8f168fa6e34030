// GGUF files (versions 2 and 3, little endian).
#pragma once

#include "source/model_source.h"

namespace streamserve {

// Reads and checks the header: metadata and the list of tensors. Throws `model_file_truncated` or
// `model_file_invalid`.
ModelSource read_gguf(File file);

}  // namespace streamserve
