// AVX-512 with VNNI: Intel from Cascade Lake and Ice Lake on, AMD from Zen 4 on.

// GCC 12's intrinsics start from a deliberately undefined register and then warn of it.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#include "families.h"
#include "lanes_avx512.h"
// Needs lanes.
#include "family_table.h"

namespace streamserve {
namespace {

inline __m512i word_of(const uint8_t* words, uint32_t index) {
  int32_t word;
  std::memcpy(&word, words + index * sizeof(word), sizeof(word));
  return _mm512_set1_epi32(word);
}

inline __m512 float_of(const uint8_t* floats, uint32_t index) {
  float value;
  std::memcpy(&value, floats + index * sizeof(value), sizeof(value));
  return _mm512_set1_ps(value);
}

// Sums of kTokens by kTiles over all groups, and the dots of one group.
template <Packing kPacking, uint32_t kTokens, uint32_t kTiles>
struct IntegerSums {
  static constexpr bool kAffine = kPacking == Packing::kInt4Affine;
  __m512 sums[kTokens][kTiles];

  inline __attribute__((always_inline)) void group(const uint8_t* words, const uint8_t* quants,
                                                   const uint8_t* scales, size_t tile_bytes) {
    const uint8_t* activation_scales = words + kTokens * kGroup;
    const uint8_t* corrections = activation_scales + kTokens * sizeof(float);
    __m512i dots[kTokens][kTiles];
#pragma GCC unroll 32
    for (uint32_t i = 0; i < kTokens; i++) {
      const __m512i start = kAffine ? _mm512_set1_epi32(kDotStart) : word_of(corrections, i);
#pragma GCC unroll 8
      for (uint32_t j = 0; j < kTiles; j++) dots[i][j] = start;
    }
    constexpr uint32_t kLines = group_quant_bytes(kPacking) / 64;
#pragma GCC unroll 8
    for (uint32_t line = 0; line < kLines; line++) {
      __m512i loaded[kTiles];
#pragma GCC unroll 8
      for (uint32_t j = 0; j < kTiles; j++)
        loaded[j] = _mm512_load_si512(quants + j * tile_bytes + line * 64);
      if constexpr (kPacking == Packing::kInt8Symmetric) {
        dot(dots, loaded, words + line * kTokens * kWord);
      } else {
        const __m512i nibble = _mm512_set1_epi8(15);
        __m512i half[kTiles];
#pragma GCC unroll 8
        for (uint32_t j = 0; j < kTiles; j++) half[j] = _mm512_and_si512(loaded[j], nibble);
        dot(dots, half, words + 2 * line * kTokens * kWord);
#pragma GCC unroll 8
        for (uint32_t j = 0; j < kTiles; j++) {
          half[j] = _mm512_and_si512(_mm512_srli_epi16(loaded[j], 4), nibble);
        }
        dot(dots, half, words + (2 * line + 1) * kTokens * kWord);
      }
    }
#pragma GCC unroll 8
    for (uint32_t j = 0; j < kTiles; j++) {
      const auto* d_at = reinterpret_cast<const uint16_t*>(scales + j * tile_bytes);
      const __m512 d = load_f16(d_at);
      const __m512 bias = _mm512_mul_ps(d, _mm512_set1_ps(-kDotBias));
#pragma GCC unroll 32
      for (uint32_t i = 0; i < kTokens; i++) {
        const __m512 product = _mm512_fmadd_ps(_mm512_castsi512_ps(dots[i][j]), d, bias);
        sums[i][j] = _mm512_fmadd_ps(product, float_of(activation_scales, i), sums[i][j]);
      }
      if constexpr (kAffine) {
        const __m512 m = load_f16(d_at + kTileRows);
#pragma GCC unroll 32
        for (uint32_t i = 0; i < kTokens; i++) {
          sums[i][j] = _mm512_fmadd_ps(m, float_of(corrections, i), sums[i][j]);
        }
      }
    }
  }

  static inline __attribute__((always_inline)) void dot(__m512i (&dots)[kTokens][kTiles],
                                                        const __m512i (&weights)[kTiles],
                                                        const uint8_t* words) {
#pragma GCC unroll 32
    for (uint32_t i = 0; i < kTokens; i++) {
      const __m512i x = word_of(words, i);
#pragma GCC unroll 8
      for (uint32_t j = 0; j < kTiles; j++) dots[i][j] = _mm512_dpbusd_epi32(dots[i][j], weights[j], x);
    }
  }
};

template <Packing kPacking, uint32_t kTokens, uint32_t kTiles>
void integer_tile(const TileJob& job) {
  IntegerSums<kPacking, kTokens, kTiles> tile;
#pragma GCC unroll 32
  for (uint32_t i = 0; i < kTokens; i++) {
#pragma GCC unroll 8
    for (uint32_t j = 0; j < kTiles; j++) tile.sums[i][j] = _mm512_setzero_ps();
  }
  constexpr size_t kScales = group_scale_bytes(kPacking);
  constexpr size_t kQuants = group_quant_bytes(kPacking);
  constexpr size_t kWords = kTokens * kActivationGroupBytes;
  const uint8_t* words = job.panel;
  const uint8_t* pair = job.tile;
  const uint32_t groups = job.cols / kGroup;
  for (uint32_t group = 0; group + 1 < groups; group += 2) {
    tile.group(words, pair + 2 * kScales, pair, job.tile_bytes);
    tile.group(words + kWords, pair + 2 * kScales + kQuants, pair + kScales, job.tile_bytes);
    words += 2 * kWords;
    pair += pair_bytes(kPacking);
  }
  if (groups % 2) tile.group(words, pair + 2 * kScales, pair, job.tile_bytes);
#pragma GCC unroll 32
  for (uint32_t i = 0; i < kTokens; i++) {
#pragma GCC unroll 8
    for (uint32_t j = 0; j < kTiles; j++) {
      const uint32_t row = j * kTileRows;
      write_sums(job.out + i * job.stride + row, tile.sums[i][j], job.rows - row, job.accumulate);
    }
  }
}

struct Shapes {
  static constexpr char kName[] = "avx512-vnni";
  static constexpr auto supported = has_avx512_vnni;

  // 32 registers: 14 sums and 14 dots, a line of weights, two scales.
  static constexpr uint32_t kWidestInteger = 14;
  static constexpr uint32_t kWidestFloat = 14;
  static constexpr uint32_t kAttentionRows = 12;
  static constexpr uint32_t kAttentionWide = 2;

  // Few tokens leave registers for more tiles, whose chains then overlap: that pays for floats. With integers
  // the dots of one tile keep up with memory, which wants to be read in one stream: side by side tiles, far
  // apart in memory, took decode steps of 1 to 7 tokens 1.4 to 2.2 times as long on Zen 5.
  static constexpr uint32_t tiles(Packing packing, uint32_t tokens) {
    return is_quantised(packing) ? 1 : tokens <= 3 ? 4 : tokens <= 7 ? 2 : 1;
  }

  template <Packing kPacking, uint32_t kTokens>
  static constexpr PanelKernel kernel() {
    constexpr uint32_t kTiles = tiles(kPacking, kTokens);
    if constexpr (is_quantised(kPacking)) {
      return {integer_tile<kPacking, kTokens, kTiles>, integer_tile<kPacking, kTokens, 1>, kTiles};
    } else {
      return {float_tile<kPacking, kTokens, kTiles>, float_tile<kPacking, kTokens, 1>, kTiles};
    }
  }
};

}  // namespace

constinit const Kernels kAvx512VnniKernels = FamilyTable<Shapes>::table();

}  // namespace streamserve
