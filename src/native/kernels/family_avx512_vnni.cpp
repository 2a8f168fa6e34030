// AVX-512 with VNNI: Intel from Cascade Lake and Ice Lake on, AMD from Zen 4 on.

// GCC 12's intrinsics start from a deliberately undefined register and then warn of it.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#include "families.h"
#include "lines_avx512.h"
// Needs lanes and lines.
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

// Scales of 16 rows, f16 or f32.
template <Packing kPacking>
inline __m512 load_scales(const uint8_t* scales, uint32_t index) {
  if constexpr (is_working(kPacking)) {
    return load(reinterpret_cast<const float*>(scales) + index * kTileRows);
  } else {
    return load_f16(reinterpret_cast<const uint16_t*>(scales) + index * kTileRows);
  }
}

// Sums of kTokens tokens by one tile over all groups, and the dots of one group.
template <Packing kPacking, uint32_t kTokens>
struct IntegerSums {
  static constexpr bool kAffine = is_affine(kPacking);
  // Parts of a group that have scales of their own.
  static constexpr uint32_t kParts = kPacking == Packing::kWideHalves ? 2 : 1;
  static constexpr uint32_t kLines = group_quant_bytes(kPacking) / 64 / kParts;
  __m512 sums[kTokens];

  inline __attribute__((always_inline)) void group(const uint8_t* words, const uint8_t* quants,
                                                   const uint8_t* scales) {
    const uint8_t* activation_scales = words + kTokens * kGroup;
    const uint8_t* corrections = activation_scales + kTokens * sizeof(float);
#pragma GCC unroll 2
    for (uint32_t part = 0; part < kParts; part++) {
      __m512i dots[kTokens];
#pragma GCC unroll 32
      for (uint32_t i = 0; i < kTokens; i++) {
        dots[i] = kAffine ? _mm512_set1_epi32(kDotStart) : word_of(corrections, part * kTokens + i);
      }
      dot_lines(dots, words + part * (kTokens * kGroup / kParts), quants + part * kLines * 64);
      const __m512 d = load_scales<kPacking>(scales, part);
      const __m512 bias = _mm512_mul_ps(d, _mm512_set1_ps(-kDotBias));
#pragma GCC unroll 32
      for (uint32_t i = 0; i < kTokens; i++) {
        const __m512 product = _mm512_fmadd_ps(_mm512_castsi512_ps(dots[i]), d, bias);
        sums[i] = _mm512_fmadd_ps(product, float_of(activation_scales, i), sums[i]);
      }
      if constexpr (kAffine) {
        const __m512 m = load_scales<kPacking>(scales, 1);
#pragma GCC unroll 32
        for (uint32_t i = 0; i < kTokens; i++) {
          sums[i] = _mm512_fmadd_ps(m, float_of(corrections, i), sums[i]);
        }
      }
    }
  }

  static inline __attribute__((always_inline)) void dot_lines(__m512i (&dots)[kTokens], const uint8_t* words,
                                                              const uint8_t* quants) {
#pragma GCC unroll 8
    for (uint32_t line = 0; line < kLines; line++) {
      const __m512i loaded = _mm512_load_si512(quants + line * 64);
      if constexpr (quant_bits(kPacking) == 8) {
        dot(dots, loaded, words + line * kTokens * kWord);
      } else {
        const __m512i nibble = _mm512_set1_epi8(15);
        dot(dots, _mm512_and_si512(loaded, nibble), words + 2 * line * kTokens * kWord);
        dot(dots, _mm512_and_si512(_mm512_srli_epi16(loaded, 4), nibble),
            words + (2 * line + 1) * kTokens * kWord);
      }
    }
  }

  static inline __attribute__((always_inline)) void dot(__m512i (&dots)[kTokens], __m512i weights,
                                                        const uint8_t* words) {
#pragma GCC unroll 32
    for (uint32_t i = 0; i < kTokens; i++) dots[i] = _mm512_dpbusd_epi32(dots[i], weights, word_of(words, i));
  }
};

template <Packing kPacking, uint32_t kTokens>
void integer_tile(const TileJob& job) {
  IntegerSums<kPacking, kTokens> tile;
#pragma GCC unroll 32
  for (uint32_t i = 0; i < kTokens; i++) tile.sums[i] = first_sums(job, i);
  constexpr size_t kScales = group_scale_bytes(kPacking);
  constexpr size_t kQuants = group_quant_bytes(kPacking);
  constexpr size_t kWords = kTokens * activation_group_bytes(kPacking);
  // Groups of a unit: a whole one a turn.
  constexpr uint32_t kTurn = unit_groups(kPacking);
  const uint8_t* words = job.panel;
  const uint8_t* unit = job.tile;
  const uint32_t groups = job.cols / kGroup;
  for (uint32_t group = 0; group + kTurn <= groups; group += kTurn) {
    read_ahead<unit_bytes(kPacking)>(job, static_cast<size_t>(unit - job.tile));
#pragma GCC unroll 2
    for (uint32_t g = 0; g < kTurn; g++) {
      tile.group(words + g * kWords, unit + kTurn * kScales + g * kQuants, unit + g * kScales);
    }
    words += kTurn * kWords;
    unit += unit_bytes(kPacking);
  }
  if (groups % kTurn) tile.group(words, unit + kTurn * kScales, unit);
#pragma GCC unroll 32
  for (uint32_t i = 0; i < kTokens; i++) last_sums(job, i, tile.sums[i]);
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
  static constexpr uint32_t float_tiles(uint32_t tokens) { return tokens <= 3 ? 4 : tokens <= 7 ? 2 : 1; }

  template <Packing kPacking, uint32_t kTokens>
  static constexpr PanelKernel kernel() {
    if constexpr (is_quantised(kPacking)) {
      return {integer_tile<kPacking, kTokens>, integer_tile<kPacking, kTokens>, 1};
    } else {
      constexpr uint32_t kTiles = float_tiles(kTokens);
      return {float_tile<kPacking, kTokens, kTiles>, float_tile<kPacking, kTokens, 1>, kTiles};
    }
  }
};

}  // namespace

constinit const Kernels kAvx512VnniKernels = FamilyTable<Shapes>::table();

}  // namespace streamserve
