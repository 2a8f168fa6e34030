// Where everything lies in packed matrices and activation panels. The layout is the same for every family.
//
// A tile is kTileRows rows by all of k. Tiles follow each other, so that a step streams a matrix once, in
// order. A tile of a float packing is [k][16 rows].
//
// Quants of a quantised packing lie as lines of 64 bytes = 16 rows x 4 k, the 4 k of a row adjacent: the
// operand of one 512-bit (or two 256-bit) integer dot instructions. The 4 k are a word, 8 words a group of 32
// k. The quants of a group are
//   int8  8 lines, line c holds word c as w + 128
//   int4  4 lines, line c holds word 2c in the low nibbles and word 2c + 1 in the high ones
//   int5  4 lines as int4, then a line of fifth bits: bit c of a byte belongs to word c
//   int6  4 lines as int4, then 2 lines of upper bit pairs: bits 2c and 2c + 1 of line h belong to word 4h +
//   c
// Tiles are cut into units, each its scales and then the quants of its groups:
//   pairs of groups (so that every part stays on 64-byte lines), the second missing after an odd last group:
//     [scales of group 0][scales of group 1][quants of group 0][quants of group 1]
//     scales of a group: 16 f16 `d`, then 16 f16 `m` for the affine packings
//   super packings, 8 groups:
//     [16 f16 d][16 f16 m][8 groups][16 u8 s][8 groups][16 u8 t][quants of 8 groups]
//     int6: [16 f16 d][32 bytes unused][16 halves of groups][16 i8 s][quants of 8 groups]
//
// Micro-kernels multiply some of the packings as they lie. The others are expanded first, a few groups of one
// tile at a time (expand.h), to what working_packing() says: kInt8Symmetric in the layout above, or
//   kWideAffine  per group [16 f32 d*s][16 f32 m*t][8 lines of q], q in 0..31
//   kWideHalves  per group [16 f32 d*s of the first 16 k][16 f32 of the rest][8 lines of q], q in 0..63
// The products of scales are exact in f32 (11 + 8 bits), so nothing is lost.
//
// Activations are cut into panels of nearly equal width (at most the family's tile of tokens); a panel of w
// tokens is
//   quantised: per group [8][w] words of 4 int8, then [w] f32 scales, then [w] corrections; for kWideHalves
//              [w] corrections of the first 16 k and [w] of the rest
//   float:     [k][w] f32
// where the correction is scale * sum(q) as f32 for the affine packings (times m), or -zero * sum(q) as int32
// for the symmetric ones, zero being zero_point(): the value the integer dot starts from. So a panel depends
// on the working packing alone.
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
// without a conversion: kDotBias * d is exact for an f16 d, and for one times an 8-bit scale.
static constexpr int32_t kDotStart = 0x4B400000;
static constexpr float kDotBias = 12582912.0F;
// The 16 values of kInt4Codebook: IQ4_NL's.
static constexpr int8_t kCodebook[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                         1,    13,   25,  38,  53,  69,  89,  113};

// What the micro-kernels multiply where a matrix is packed so.
static constexpr Packing working_packing(Packing packing) {
  switch (packing) {
    case Packing::kInt4Codebook:
    case Packing::kInt5Symmetric:
      return Packing::kInt8Symmetric;
    case Packing::kInt4Super:
    case Packing::kInt5Affine:
    case Packing::kInt5Super:
      return Packing::kWideAffine;
    case Packing::kInt6Super:
      return Packing::kWideHalves;
    default:
      return packing;
  }
}

static constexpr bool is_working(Packing packing) {
  return packing == Packing::kWideAffine || packing == Packing::kWideHalves;
}

static constexpr bool is_super(Packing packing) {
  return packing == Packing::kInt4Super || packing == Packing::kInt5Super || packing == Packing::kInt6Super;
}

// Whether a minimum is added to scaled quants; else a zero point is taken from them.
static constexpr bool is_affine(Packing packing) {
  return packing == Packing::kInt4Affine || packing == Packing::kInt5Affine ||
         packing == Packing::kInt4Super || packing == Packing::kInt5Super || packing == Packing::kWideAffine;
}

// The value that stands for zero in the unsigned quants of a symmetric working packing.
static constexpr int32_t zero_point(Packing packing) {
  return packing == Packing::kInt4Symmetric ? 8 : packing == Packing::kWideHalves ? 32 : 128;
}

static constexpr uint32_t quant_bits(Packing packing) {
  switch (packing) {
    case Packing::kInt5Affine:
    case Packing::kInt5Symmetric:
    case Packing::kInt5Super:
      return 5;
    case Packing::kInt6Super:
      return 6;
    case Packing::kInt8Symmetric:
    case Packing::kWideAffine:
    case Packing::kWideHalves:
      return 8;
    default:
      return 4;
  }
}

// Bytes of activations of one token and one group: 32 int8, scale, one or two corrections.
static constexpr uint32_t activation_group_bytes(Packing packing) {
  return working_packing(packing) == Packing::kWideHalves ? kGroup + 12 : kGroup + 8;
}

// Groups of a whole unit.
static constexpr uint32_t unit_groups(Packing packing) {
  return is_super(packing) ? kSuperGroup / kGroup : is_working(packing) ? 1 : 2;
}

// Bytes of the quants of one tile and group.
static constexpr size_t group_quant_bytes(Packing packing) {
  return kTileRows * kGroup / 8 * quant_bits(packing);
}

// Bytes of the scales of one tile and group where they are not super.
static constexpr size_t group_scale_bytes(Packing packing) {
  return is_working(packing) ? kTileRows * 8 : kTileRows * (is_affine(packing) ? 4 : 2);
}

// In the scales of a super unit: where s (and then t) begin.
static constexpr size_t kSuperScalesAt = 64;

// Bytes of the scales of a unit, the same where its last groups are missing.
static constexpr size_t unit_scale_bytes(Packing packing) {
  if (!is_super(packing)) return unit_groups(packing) * group_scale_bytes(packing);
  return kSuperScalesAt + size_t{2} * kSuperGroup / kGroup * kTileRows;
}

static constexpr size_t unit_bytes(Packing packing) {
  return unit_scale_bytes(packing) + unit_groups(packing) * group_quant_bytes(packing);
}

// Bytes of a weight in a float packing.
static constexpr size_t float_weight_bytes(Packing packing) { return packing == Packing::kFloat32 ? 4 : 2; }

// Bytes of one tile, a multiple of 32; of 64 for quantised packings.
static constexpr size_t tile_bytes(Packing packing, uint32_t cols) {
  if (!is_quantised(packing)) return kTileRows * float_weight_bytes(packing) * static_cast<size_t>(cols);
  const size_t groups = cols / kGroup;
  const size_t rest = groups % unit_groups(packing);
  return groups / unit_groups(packing) * unit_bytes(packing) +
         (rest ? unit_scale_bytes(packing) + rest * group_quant_bytes(packing) : 0);
}

// Where the unit of a group, and the scales (unless super) and the quants of a group begin in its tile.
static constexpr size_t unit_at(Packing packing, size_t group) {
  return group / unit_groups(packing) * unit_bytes(packing);
}
static constexpr size_t group_scales_at(Packing packing, size_t group) {
  return unit_at(packing, group) + group % unit_groups(packing) * group_scale_bytes(packing);
}
static constexpr size_t group_quants_at(Packing packing, size_t group) {
  return unit_at(packing, group) + unit_scale_bytes(packing) +
         group % unit_groups(packing) * group_quant_bytes(packing);
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
  return is_quantised(packing) ? static_cast<size_t>(cols / kGroup) * activation_group_bytes(packing)
                               : static_cast<size_t>(cols) * sizeof(float);
}

}  // namespace streamserve
