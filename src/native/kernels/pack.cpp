// Packs GGUF tensors into the layout of layout.h.
#include "pack.h"

#include <cstring>
#include <vector>

#include "layout.h"
#include "quant_groups.h"

namespace streamserve {
namespace {

// Puts bits of the quants where layout.h has them.
void write_quants(Packing packing, const QuantGroup& group, uint32_t row, uint8_t* quants) {
  for (uint32_t k = 0; k < kGroup; k++) {
    const uint32_t word = k / kWord;
    const uint32_t byte = row * kWord + k % kWord;
    const uint8_t quant = group.quants[k];
    if (packing == Packing::kInt8Symmetric) {
      quants[word * 64 + byte] = quant;
      continue;
    }
    quants[word / 2 * 64 + byte] |= static_cast<uint8_t>((quant & 15U) << word % 2 * 4);
    uint8_t* upper = quants + 4 * 64 + byte;
    if (quant_bits(packing) == 5) *upper |= static_cast<uint8_t>(quant >> 4 << word);
    if (quant_bits(packing) == 6) upper[word / 4 * 64] |= static_cast<uint8_t>(quant >> 4 << word % 4 * 2);
  }
}

// `unit` is the unit of the group, `group` its index there.
void write_super_scales(Packing packing, const QuantGroup& values, uint32_t row, uint32_t group,
                        uint8_t* unit) {
  std::memcpy(unit + 2 * row, &values.scale, 2);
  uint8_t* steps = unit + kSuperScalesAt + row;
  if (is_affine(packing)) {
    std::memcpy(unit + 2 * kTileRows + 2 * row, &values.minimum, 2);
    steps[group * kTileRows] = values.steps[0];
    steps[(unit_groups(packing) + group) * kTileRows] = values.steps[1];
  } else {
    steps[2 * group * kTileRows] = values.steps[0];
    steps[(2 * group + 1) * kTileRows] = values.steps[1];
  }
}

void write_scales(Packing packing, const QuantGroup& values, uint32_t row, uint8_t* scales) {
  std::memcpy(scales + 2 * row, &values.scale, 2);
  if (is_affine(packing)) std::memcpy(scales + 2 * kTileRows + 2 * row, &values.minimum, 2);
}

void pack_quantised_tile(Format format, const uint8_t* source, Packing packing, uint32_t rows, uint32_t cols,
                         uint8_t* out) {
  std::memset(out, 0, tile_bytes(packing, cols));
  const size_t stride = format_row_bytes(format, cols);
  for (uint32_t group = 0; group < cols / kGroup; group++) {
    for (uint32_t row = 0; row < rows; row++) {
      const QuantGroup values = read_group(format, source + row * stride, group);
      if (is_super(packing)) {
        write_super_scales(packing, values, row, group % unit_groups(packing), out + unit_at(packing, group));
      } else {
        write_scales(packing, values, row, out + group_scales_at(packing, group));
      }
      write_quants(packing, values, row, out + group_quants_at(packing, group));
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
  const uint32_t step = !is_quantised(packing) ? 1 : is_super(packing) ? kSuperGroup : kGroup;
  if (rows == 0 || cols == 0 || cols % step != 0 || is_working(packing)) return 0;
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
