// The portable family: plain C++ on any processor, and the reference of the others.
#include <cstring>

#include "families.h"
#include "lanes_portable.h"
// Needs lanes.
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
      if constexpr (kPacking == Packing::kInt8Symmetric) {
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

template <Packing kPacking, uint32_t kTokens>
void integer_tile(const TileJob& job) {
  Lanes sums[kTokens];
  for (Lanes& sum : sums) sum = zero();
  for (uint32_t group = 0; group < job.cols / kGroup; group++) {
    const Unpacked weights = unpack_group<kPacking>(job.tile + group_quants_at(kPacking, group));
    const auto* scales = reinterpret_cast<const uint16_t*>(job.tile + group_scales_at(kPacking, group));
    const Lanes d = load_f16(scales);
    const uint8_t* words = job.panel + static_cast<size_t>(group) * kTokens * kActivationGroupBytes;
    const uint8_t* activation_scales = words + kTokens * kGroup;
    const uint8_t* corrections = activation_scales + kTokens * sizeof(float);
    for (uint32_t i = 0; i < kTokens; i++) {
      constexpr bool kAffine = kPacking == Packing::kInt4Affine;
      int32_t dots[kTileRows];
      const int32_t start = kAffine ? 0 : read_at<int32_t>(corrections, i) - kDotStart;
      for (int32_t& dot : dots) dot = start;
      for (uint32_t k = 0; k < kGroup; k++) {
        const auto x = static_cast<int8_t>(words[(k / kWord * kTokens + i) * kWord + k % kWord]);
        for (uint32_t row = 0; row < kTileRows; row++) dots[row] += weights.quants[k][row] * x;
      }
      const Lanes products =
          multiply(each_lane([&](uint32_t row) { return static_cast<float>(dots[row]); }), d);
      sums[i] = fused(products, broadcast(read_at<float>(activation_scales, i)), sums[i]);
      if constexpr (kAffine) {
        sums[i] = fused(load_f16(scales + kTileRows), broadcast(read_at<float>(corrections, i)), sums[i]);
      }
    }
  }
  for (uint32_t i = 0; i < kTokens; i++)
    write_sums(job.out + i * job.stride, sums[i], job.rows, job.accumulate);
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
