// Packs GGUF tensors into the layout of layout.h.
#include "pack.h"

#include <cstring>
#include <vector>

#include "half.h"
#include "layout.h"

namespace streamserve {
namespace {

// One group of one row: scales as f16 bits, quants as the unsigned values the packing keeps.
struct Group {
  uint16_t scale;
  uint16_t minimum;
  uint8_t quants[kGroup];
};

Group read_group(Format format, const uint8_t* row, uint32_t group) {
  Group result{};
  if (format == Format::kQ8_0) {
    const uint8_t* block = row + static_cast<size_t>(group) * 34;
    std::memcpy(&result.scale, block, 2);
    for (uint32_t k = 0; k < kGroup; k++) result.quants[k] = block[2 + k] ^ 0x80U;  // int8 + 128
    return result;
  }
  const bool affine = format == Format::kQ4_1;
  const uint8_t* block = row + static_cast<size_t>(group) * (affine ? 20 : 18);
  std::memcpy(&result.scale, block, 2);
  if (affine) std::memcpy(&result.minimum, block + 2, 2);
  const uint8_t* nibbles = block + (affine ? 4 : 2);
  for (uint32_t k = 0; k < 16; k++) {
    result.quants[k] = nibbles[k] & 15U;
    result.quants[k + 16] = nibbles[k] >> 4;
  }
  return result;
}

void write_group(Packing packing, const Group& group, uint32_t row, uint8_t* scales, uint8_t* quants) {
  std::memcpy(scales + 2 * row, &group.scale, 2);
  if (packing == Packing::kInt4Affine) std::memcpy(scales + 2 * kTileRows + 2 * row, &group.minimum, 2);
  for (uint32_t k = 0; k < kGroup; k++) {
    const uint32_t word = k / kWord;
    const uint32_t byte = row * kWord + k % kWord;
    if (packing == Packing::kInt8Symmetric) {
      quants[word * 64 + byte] = group.quants[k];
    } else {
      quants[word / 2 * 64 + byte] |= static_cast<uint8_t>(word % 2 ? group.quants[k] << 4 : group.quants[k]);
    }
  }
}

void pack_quantised_tile(Format format, const uint8_t* source, Packing packing, uint32_t rows, uint32_t cols,
                         uint8_t* out) {
  std::memset(out, 0, tile_bytes(packing, cols));
  const size_t stride = format_row_bytes(format, cols);
  for (uint32_t group = 0; group < cols / kGroup; group++) {
    for (uint32_t row = 0; row < rows; row++) {
      write_group(packing, read_group(format, source + row * stride, group), row,
                  out + group_scales_at(packing, group), out + group_quants_at(packing, group));
    }
  }
}

void pack_float_tile(Format format, const uint8_t* source, Packing packing, uint32_t rows, uint32_t cols,
                     uint8_t* out) {
  std::memset(out, 0, tile_bytes(packing, cols));
  const size_t stride = format_row_bytes(format, cols);
  if (packing != Packing::kFloat32) {
    for (uint32_t row = 0; row < rows; row++) {
      for (uint32_t k = 0; k < cols; k++) {
        std::memcpy(out + 2 * (static_cast<size_t>(k) * kTileRows + row), source + row * stride + 2 * k, 2);
      }
    }
    return;
  }
  std::vector<float> widened(cols);
  for (uint32_t row = 0; row < rows; row++) {
    embed_row(format, source + row * stride, cols, widened.data());
    for (uint32_t k = 0; k < cols; k++) {
      std::memcpy(out + sizeof(float) * (static_cast<size_t>(k) * kTileRows + row), &widened[k],
                  sizeof(float));
    }
  }
}

}  // namespace

size_t packed_bytes(Packing packing, uint32_t rows, uint32_t cols) {
  if (rows == 0 || cols == 0 || (is_quantised(packing) && cols % kGroup != 0)) return 0;
  return tile_bytes(packing, cols) * tile_count(rows);
}

void pack(Format format, const uint8_t* source, Packing packing, uint32_t rows, uint32_t cols,
          uint32_t tile_begin, uint32_t tile_end, uint8_t* out) {
  const size_t stride = format_row_bytes(format, cols);
  for (uint32_t tile = tile_begin; tile < tile_end; tile++) {
    const uint32_t first = tile * kTileRows;
    const uint32_t here = rows - first < kTileRows ? rows - first : kTileRows;
    auto* pack_tile = is_quantised(packing) ? pack_quantised_tile : pack_float_tile;
    pack_tile(format, source + first * stride, packing, here, cols, out + tile * tile_bytes(packing, cols));
  }
}

}  // namespace streamserve
