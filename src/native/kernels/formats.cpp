// What the GGUF formats are: sizes, the packing that suits each, and how to widen a row.
#include <cstring>

#include "half.h"
#include "kernels.h"
#include "pack.h"

namespace streamserve {
namespace {

// Elements and bytes of one block of a format.
struct Blocks {
  uint32_t elements;
  uint32_t bytes;
};

Blocks blocks_of(Format format) {
  switch (format) {
    case Format::kF32:
      return {1, 4};
    case Format::kF16:
    case Format::kBF16:
      return {1, 2};
    case Format::kQ4_0:
      return {32, 18};  // f16 d, 16 bytes: k in low nibbles, k + 16 in high ones
    case Format::kQ4_1:
      return {32, 20};  // f16 d, f16 m, nibbles likewise
    case Format::kQ8_0:
      return {32, 34};  // f16 d, 32 int8
  }
  return {0, 0};
}

uint16_t load_u16(const uint8_t* at) {
  uint16_t value;
  std::memcpy(&value, at, sizeof(value));
  return value;
}

}  // namespace

size_t format_row_bytes(Format format, uint32_t cols) {
  const Blocks blocks = blocks_of(format);
  if (blocks.elements == 0 || cols % blocks.elements != 0) return 0;
  return static_cast<size_t>(cols / blocks.elements) * blocks.bytes;
}

Packing natural_packing(Format format) {
  switch (format) {
    case Format::kF16:
      return Packing::kFloat16;
    case Format::kBF16:
      return Packing::kBFloat16;
    case Format::kQ4_0:
      return Packing::kInt4Symmetric;
    case Format::kQ4_1:
      return Packing::kInt4Affine;
    case Format::kQ8_0:
      return Packing::kInt8Symmetric;
    case Format::kF32:
      break;
  }
  return Packing::kFloat32;
}

bool can_pack(Format format, Packing packing) {
  return blocks_of(format).elements != 0 &&
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
    case Format::kQ4_0:
      for (uint32_t k = 0; k < cols; k += 32, row += 18) {
        const float d = f16_to_f32(load_u16(row));
        for (uint32_t i = 0; i < 16; i++) {
          out[k + i] = d * static_cast<float>((row[2 + i] & 15) - 8);
          out[k + i + 16] = d * static_cast<float>((row[2 + i] >> 4) - 8);
        }
      }
      return;
    case Format::kQ4_1:
      for (uint32_t k = 0; k < cols; k += 32, row += 20) {
        const float d = f16_to_f32(load_u16(row));
        const float m = f16_to_f32(load_u16(row + 2));
        // d * q is exact in f32 (11 + 4 bits), so this rounds once.
        for (uint32_t i = 0; i < 16; i++) {
          out[k + i] = d * static_cast<float>(row[4 + i] & 15) + m;
          out[k + i + 16] = d * static_cast<float>(row[4 + i] >> 4) + m;
        }
      }
      return;
    case Format::kQ8_0:
      for (uint32_t k = 0; k < cols; k += 32, row += 34) {
        const float d = f16_to_f32(load_u16(row));
        for (uint32_t i = 0; i < 32; i++)
          out[k + i] = d * static_cast<float>(static_cast<int8_t>(row[2 + i]));
      }
      return;
  }
}

}  // namespace streamserve
