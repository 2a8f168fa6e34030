// The portable family: plain C++ on any processor, and the reference of the others.
#include <cstring>

#include "families.h"
#include "lines_portable.h"
// Needs lanes and lines.
#include "family_table.h"

namespace streamserve {
namespace {

// The k of a group for 16 rows as signed integers in order of k, with the zero point still in.
struct Unpacked {
  int16_t quants[kGroup][kTileRows];
};

template <Packing kPacking>
Unpacked unpack_group(const uint8_t* quants) {
  Unpacked result;
  for (uint32_t k = 0; k < kGroup; k++) {
    const uint32_t word = k / kWord;
    for (uint32_t row = 0; row < kTileRows; row++) {
      const uint32_t byte = row * kWord + k % kWord;
      if constexpr (quant_bits(kPacking) == 8) {
        result.quants[k][row] = quants[word * 64 + byte];
      } else {
        const uint8_t both = quants[word / 2 * 64 + byte];
        result.quants[k][row] = static_cast<int16_t>(word % 2 ? both >> 4 : both & 15);
      }
    }
  }
  return result;
}

template <typename Value>
Value read_at(const uint8_t* base, size_t index) {
  Value value;
  std::memcpy(&value, base + index * sizeof(Value), sizeof(Value));
  return value;
}

// Scales of 16 rows, f16 or f32.
template <Packing kPacking>
Lanes load_scales(const uint8_t* scales, uint32_t index) {
  if constexpr (is_working(kPacking)) {
    return load(reinterpret_cast<const float*>(scales) + index * kTileRows);
  } else {
    return load_f16(reinterpret_cast<const uint16_t*>(scales) + index * kTileRows);
  }
}

template <Packing kPacking, uint32_t kTokens>
void integer_tile(const TileJob& job) {
  constexpr bool kAffine = is_affine(kPacking);
  // Parts of a group that have scales of their own.
  constexpr uint32_t kParts = kPacking == Packing::kWideHalves ? 2 : 1;
  Lanes sums[kTokens];
  for (uint32_t i = 0; i < kTokens; i++) sums[i] = first_sums(job, i);
  for (uint32_t group = 0; group < job.cols / kGroup; group++) {
    const Unpacked weights = unpack_group<kPacking>(job.tile + group_quants_at(kPacking, group));
    const uint8_t* scales = job.tile + group_scales_at(kPacking, group);
    const uint8_t* words =
        job.panel + static_cast<size_t>(group) * kTokens * activation_group_bytes(kPacking);
    const uint8_t* activation_scales = words + kTokens * kGroup;
    const uint8_t* corrections = activation_scales + kTokens * sizeof(float);
    for (uint32_t i = 0; i < kTokens; i++) {
      const Lanes scale = broadcast(read_at<float>(activation_scales, i));
      for (uint32_t part = 0; part < kParts; part++) {
        int32_t dots[kTileRows];
        const int32_t start = kAffine ? 0 : read_at<int32_t>(corrections, part * kTokens + i) - kDotStart;
        for (int32_t& dot : dots) dot = start;
        for (uint32_t k = part * kGroup / kParts; k < (part + 1) * kGroup / kParts; k++) {
          const auto x = static_cast<int8_t>(words[(k / kWord * kTokens + i) * kWord + k % kWord]);
          for (uint32_t row = 0; row < kTileRows; row++) dots[row] += weights.quants[k][row] * x;
        }
        const Lanes d = load_scales<kPacking>(scales, part);
        const Lanes products =
            multiply(each_lane([&](uint32_t row) { return static_cast<float>(dots[row]); }), d);
        sums[i] = fused(products, scale, sums[i]);
      }
      if constexpr (kAffine) {
        const Lanes minimum = load_scales<kPacking>(scales, 1);
        sums[i] = fused(minimum, broadcast(read_at<float>(corrections, i)), sums[i]);
      }
    }
  }
  for (uint32_t i = 0; i < kTokens; i++) last_sums(job, i, sums[i]);
}

struct Shapes {
  static constexpr char kName[] = "portable";
  static bool supported() { return true; }

  // Few tokens a panel: plain C++ keeps its sums in memory anyway.
  static constexpr uint32_t kWidestInteger = 4;
  static constexpr uint32_t kWidestFloat = 4;
  static constexpr uint32_t kAttentionRows = 4;
  static constexpr uint32_t kAttentionWide = 2;

  template <Packing kPacking, uint32_t kTokens>
  static constexpr PanelKernel kernel() {
    if constexpr (is_quantised(kPacking)) {
      return {integer_tile<kPacking, kTokens>, integer_tile<kPacking, kTokens>, 1};
    } else {
      return {float_tile<kPacking, kTokens, 1>, float_tile<kPacking, kTokens, 1>, 1};
    }
  }
};

}  // namespace

constinit const Kernels kPortableKernels = FamilyTable<Shapes>::table();

}  // namespace streamserve
