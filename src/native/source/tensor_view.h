// From what lies in a file to what a tensor's view of it gives.
#pragma once

#include <cstdint>
#include <span>

#include "source/model_source.h"

namespace streamserve {

// Bytes that the tensor takes in its file.
uint64_t stored_bytes(const TensorInfo& tensor);

// Row 2i + s of each head is row s * half + i of it in the file. `tensor` is a matrix, or a vector with one
// element a row, whose rows are a multiple of 2 * heads.
void interleave_heads(std::span<const uint8_t> stored, const TensorInfo& tensor, std::span<uint8_t> out);

// F32, F16 or BF16 (GGUF's numbers), widened, plus one.
void add_one(std::span<const uint8_t> stored, uint32_t format, std::span<uint8_t> out);

}  // namespace streamserve
