// What the GGUF formats are: sizes, the packing that suits each, and how to widen a row.
#include <cstring>

#include "half.h"
#include "kernels.h"
#include "pack.h"
#include "quant_groups.h"

namespace streamserve {
namespace {

// Elements and bytes of one block of a format, and the packing that keeps it.
struct Traits {
  uint32_t elements;
  uint32_t bytes;
  Packing packing;
};

Traits traits_of(Format format) {
  switch (format) {
    case Format::kF32:
      return {1, 4, Packing::kFloat32};
    case Format::kF16:
      return {1, 2, Packing::kFloat16};
    case Format::kBF16:
      return {1, 2, Packing::kBFloat16};
    case Format::kQ4_0:
      return {32, 18, Packing::kInt4Symmetric};  // f16 d, nibbles
    case Format::kQ4_1:
      return {32, 20, Packing::kInt4Affine};  // f16 d, f16 m, nibbles
    case Format::kQ5_0:
      return {32, 22, Packing::kInt5Symmetric};  // f16 d, fifth bits, nibbles
    case Format::kQ5_1:
      return {32, 24, Packing::kInt5Affine};  // f16 d, f16 m, fifth bits, nibbles
    case Format::kQ8_0:
      return {32, 34, Packing::kInt8Symmetric};  // f16 d, 32 int8
    case Format::kQ4_K:
      return {256, 144, Packing::kInt4Super};
    case Format::kQ5_K:
      return {256, 176, Packing::kInt5Super};
    case Format::kQ6_K:
      return {256, 210, Packing::kInt6Super};
    case Format::kIQ4_NL:
      return {32, 18, Packing::kInt4Codebook};  // f16 d, nibbles
  }
  return {0, 0, Packing::kFloat32};
}

uint16_t load_u16(const uint8_t* at) {
  uint16_t value;
  std::memcpy(&value, at, sizeof(value));
  return value;
}

}  // namespace

size_t format_row_bytes(Format format, uint32_t cols) {
  const Traits traits = traits_of(format);
  if (traits.elements == 0 || cols % traits.elements != 0) return 0;
  return static_cast<size_t>(cols / traits.elements) * traits.bytes;
}

Packing natural_packing(Format format) { return traits_of(format).packing; }

bool can_pack(Format format, Packing packing) {
  return traits_of(format).elements != 0 &&
         (packing == Packing::kFloat32 || packing == natural_packing(format));
}

void embed_row(Format format, const uint8_t* row, uint32_t cols, float* out) {
  switch (format) {
    case Format::kF32:
      std::memcpy(out, row, static_cast<size_t>(cols) * sizeof(float));
      return;
    case Format::kF16:
      for (uint32_t k = 0; k < cols; k++) out[k] = f16_to_f32(load_u16(row + 2 * k));
      return;
    case Format::kBF16:
      for (uint32_t k = 0; k < cols; k++) out[k] = bf16_to_f32(load_u16(row + 2 * k));
      return;
    default:
      for (uint32_t group = 0; group < cols / kGroup; group++) {
        widen_group(format, read_group(format, row, group), out + group * kGroup);
      }
  }
}

}  // namespace streamserve
