// A whole tensor of a model in another format.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/kernels.h"
#include "source/model_source.h"

namespace streamserve {

// Rounds `tensor` to `format` on up to `threads` threads; see quantise_row. Throws `model_format_unsupported`
// when the tensor's rows do not fit the format's blocks or its own format is not known, `model_file_invalid`
// for a weight that is not finite or that the format cannot hold, and what reading throws.
std::vector<uint8_t> quantise_tensor(const ModelSource& source, const TensorInfo& tensor, Format format,
                                     std::span<const float> importance, uint32_t threads);

}  // namespace streamserve
