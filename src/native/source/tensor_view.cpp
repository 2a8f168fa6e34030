#include "source/tensor_view.h"

#include <cstring>

#include "kernels/half.h"
#include "kernels/kernels.h"

namespace streamserve {

uint64_t stored_bytes(const TensorInfo& tensor) {
  if (tensor.view != TensorView::kPlusOne) return tensor.bytes.value_or(0);
  const uint64_t elements = tensor.bytes.value_or(0) / sizeof(float);
  return elements * (static_cast<Format>(tensor.stored_format) == Format::kF32 ? 4 : 2);
}

void interleave_heads(std::span<const uint8_t> stored, const TensorInfo& tensor, std::span<uint8_t> out) {
  const uint64_t rows = tensor.dimensions == 1 ? tensor.shape[0] : tensor.shape[1];
  const size_t row_bytes = stored.size() / rows;
  const uint64_t head_rows = rows / tensor.heads;
  const uint64_t half = head_rows / 2;
  for (uint64_t row = 0; row < rows; ++row) {
    const uint64_t in_head = row % head_rows;
    const uint64_t from = row - in_head + in_head % 2 * half + in_head / 2;
    std::memcpy(out.data() + row * row_bytes, stored.data() + from * row_bytes, row_bytes);
  }
}

void add_one(std::span<const uint8_t> stored, uint32_t format, std::span<uint8_t> out) {
  const bool wide = static_cast<Format>(format) == Format::kF32;
  for (size_t i = 0; i < out.size() / sizeof(float); ++i) {
    float value;
    if (wide) {
      std::memcpy(&value, stored.data() + i * sizeof value, sizeof value);
    } else {
      uint16_t half;
      std::memcpy(&half, stored.data() + i * sizeof half, sizeof half);
      value = static_cast<Format>(format) == Format::kF16 ? f16_to_f32(half) : bf16_to_f32(half);
    }
    value += 1.0F;
    std::memcpy(out.data() + i * sizeof value, &value, sizeof value);
  }
}

}  // namespace streamserve
