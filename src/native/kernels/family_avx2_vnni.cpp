// AVX2 with AVX-VNNI: Intel from Alder Lake on, AMD from Zen 5 on, where AVX-512 is missing.
#include "families.h"
#include "lines_avx2.h"
// Needs lanes and lines.
#include "family_table.h"
#include "integer_tiles_avx2.h"
// Needs integer tiles.
#include "dot_shapes.h"

namespace streamserve {
namespace {

struct VnniDots {
  // Whether dots of this packing lack the zero point; whether they start from kDotStart (else 0).
  static constexpr bool lacks_zero_point(Packing packing) { return !is_affine(packing); }
  static constexpr bool starts_biased(Packing packing) { return is_affine(packing); }

  // Dots of kWords words. `words` and `quants` are where their activations and weights begin.
  template <Packing kPacking, uint32_t kWords, uint32_t kTokens>
  static inline __attribute__((always_inline)) void dot(__m256i (&dots)[kTokens][kHalves],
                                                        const uint8_t* words, const uint8_t* quants) {
    for (auto& of_token : dots) {
      for (__m256i& dot : of_token) dot = _mm256_set1_epi32(starts_biased(kPacking) ? kDotStart : 0);
    }
    const __m256i nibble = _mm256_set1_epi8(15);
    constexpr uint32_t kWordBytes = kTokens * kWord;
    // Lines of bytes hold one word, lines of nibbles two.
    for (uint32_t line = 0; line < kWords * quant_bits(kPacking) / 8; line++) {
      __m256i loaded[kHalves];
      __m256i low[kHalves];
#pragma GCC unroll 2
      for (uint32_t h = 0; h < kHalves; h++) {
        loaded[h] = load_half_line(quants + line * 64 + h * 32);
        low[h] = _mm256_and_si256(loaded[h], nibble);
      }
      if constexpr (quant_bits(kPacking) == 8) {
        line_of(dots, loaded, words + line * kWordBytes);
      } else {
        line_of(dots, low, words + 2 * line * kWordBytes);
#pragma GCC unroll 2
        for (uint32_t h = 0; h < kHalves; h++) {
          loaded[h] = _mm256_and_si256(_mm256_srli_epi16(loaded[h], 4), nibble);
        }
        line_of(dots, loaded, words + (2 * line + 1) * kWordBytes);
      }
    }
  }

  template <uint32_t kTokens>
  static inline __attribute__((always_inline)) void line_of(__m256i (&dots)[kTokens][kHalves],
                                                            const __m256i (&weights)[kHalves],
                                                            const uint8_t* words) {
#pragma GCC unroll 16
    for (uint32_t i = 0; i < kTokens; i++) {
      const __m256i x = eight_of_word(words, i);
#pragma GCC unroll 2
      for (uint32_t h = 0; h < kHalves; h++) dots[i][h] = _mm256_dpbusd_avx_epi32(dots[i][h], weights[h], x);
    }
  }
};

struct Shapes : DotShapes<VnniDots> {
  static constexpr char kName[] = "avx2-vnni";
  static constexpr auto supported = has_avx2_vnni;

  // 16 registers: 6 by 2 dots, two halves of a line of weights, an activation, the nibble mask.
  static constexpr uint32_t kWidestInteger = 6;
};

}  // namespace

constinit const Kernels kAvx2VnniKernels = FamilyTable<Shapes>::table();

}  // namespace streamserve
