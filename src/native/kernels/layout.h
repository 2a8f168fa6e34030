// Where everything lies in packed matrices and activation panels. The layout is the same for every family.
//
// A tile is kTileRows rows by all of k. Quantised tiles are cut into pairs of groups of 32 k:
//   [scales of group 0][scales of group 1][quants of group 0][quants of group 1]
// (pairs keep every part on 64-byte lines). Scales of a group: 16 f16 `d`, and for the affine packing 16 f16
// `m`. Quants lie as lines of 64 bytes = 16 rows x 4 k, the 4 k of a row adjacent: the operand of one 512-bit
// (or two 256-bit) integer dot instructions. int8: 8 lines, line c holds k = 4c..4c+3 as w + 128. int4: 4
// lines, line c holds k = 8c..8c+3 in the low nibbles and 8c+4..8c+7 in the high ones. A tile of a float
// packing is [k][16 rows]. Tiles follow each other, so that a step streams a matrix once, in order.
//
// Activations are cut into panels of nearly equal width (at most the family's tile of tokens); a panel of w
// tokens is
//   quantised: per group [8][w] words of 4 int8, then [w] f32 scales, then [w] corrections
//   float:     [k][w] f32
// where the correction is scale * sum(q) as f32 for the affine packing (times m), or -zero * sum(q) as int32
// for the symmetric ones, zero being 128 (int8) or 8 (int4): the value the integer dot starts from.
//
// Functions here are static, not inline: object files built for different instruction sets must not share
// them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels.h"

namespace streamserve {

// How many k lie together in one 32-bit word of the integer dot.
static constexpr uint32_t kWord = 4;
static constexpr uint32_t kWordsPerGroup = kGroup / kWord;
// The bits of the f32 1.5 * 2^23. An integer dot (less than 2^22) that starts from them is, read as f32, the
// dot plus kDotBias; so scaling it is fma(biased, d, -kDotBias * d), which is exactly the rounded d * dot,
// without a conversion: kDotBias * d is exact for an f16 d.
static constexpr int32_t kDotStart = 0x4B400000;
static constexpr float kDotBias = 12582912.0F;
// Bytes of activations of one token and one group: 32 int8, scale, correction.
static constexpr uint32_t kActivationGroupBytes = kGroup + 8;

static constexpr bool is_quantised(Packing packing) {
  return packing == Packing::kInt4Affine || packing == Packing::kInt4Symmetric ||
         packing == Packing::kInt8Symmetric;
}

// Bytes of the quants of one tile and group.
static constexpr size_t group_quant_bytes(Packing packing) {
  return packing == Packing::kInt8Symmetric ? kTileRows * kGroup : kTileRows * kGroup / 2;
}

// Bytes of the scales of one tile and group.
static constexpr size_t group_scale_bytes(Packing packing) {
  return packing == Packing::kInt4Affine ? kTileRows * 4 : kTileRows * 2;
}

static constexpr size_t pair_bytes(Packing packing) {
  return 2 * (group_quant_bytes(packing) + group_scale_bytes(packing));
}

// Bytes of a weight in a float packing.
static constexpr size_t float_weight_bytes(Packing packing) { return packing == Packing::kFloat32 ? 4 : 2; }

// The value that stands for zero in the unsigned quants of a symmetric packing.
static constexpr int32_t zero_point(Packing packing) { return packing == Packing::kInt8Symmetric ? 128 : 8; }

// Bytes of one tile, a multiple of 32; of 64 for quantised packings.
static constexpr size_t tile_bytes(Packing packing, uint32_t cols) {
  if (!is_quantised(packing)) return kTileRows * float_weight_bytes(packing) * static_cast<size_t>(cols);
  const size_t groups = cols / kGroup;
  const size_t odd = groups % 2 ? 2 * group_scale_bytes(packing) + group_quant_bytes(packing) : 0;
  return groups / 2 * pair_bytes(packing) + odd;
}

// Where the scales and the quants of a group begin in its tile.
static constexpr size_t group_scales_at(Packing packing, size_t group) {
  return group / 2 * pair_bytes(packing) + group % 2 * group_scale_bytes(packing);
}
static constexpr size_t group_quants_at(Packing packing, size_t group) {
  return group / 2 * pair_bytes(packing) + 2 * group_scale_bytes(packing) +
         group % 2 * group_quant_bytes(packing);
}

static constexpr uint32_t tile_count(uint32_t rows) { return rows / kTileRows + (rows % kTileRows ? 1 : 0); }

// How `tokens` are cut into panels of at most `widest`: the first `wide` panels have width + 1 tokens.
struct PanelSplit {
  uint32_t panels;
  uint32_t width;
  uint32_t wide;

  constexpr uint32_t begin(uint32_t panel) const { return panel * width + (panel < wide ? panel : wide); }
  constexpr uint32_t tokens(uint32_t panel) const { return width + (panel < wide ? 1 : 0); }
  constexpr uint32_t panel_of(uint32_t token) const {
    const uint32_t in_wide = wide * (width + 1);
    return token < in_wide ? token / (width + 1) : wide + (token - in_wide) / width;
  }
};

static constexpr PanelSplit split_panels(uint32_t tokens, uint32_t widest) {
  const uint32_t panels = tokens / widest + (tokens % widest ? 1 : 0);
  return panels ? PanelSplit{panels, tokens / panels, tokens % panels} : PanelSplit{0, 1, 0};
}

// Bytes of one token's activations.
static constexpr size_t token_bytes(Packing packing, uint32_t cols) {
  return is_quantised(packing) ? static_cast<size_t>(cols / kGroup) * kActivationGroupBytes
                               : static_cast<size_t>(cols) * sizeof(float);
}

}  // namespace streamserve
