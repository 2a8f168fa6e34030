// AVX2 with FMA and F16C: Intel from Haswell on, AMD from Zen on.
#include "families.h"
#include "lines_avx2.h"
// Needs lanes and lines.
#include "family_table.h"
#include "integer_tiles_avx2.h"
// Needs integer tiles.
#include "dot_shapes.h"

namespace streamserve {
namespace {

// vpmaddubsw multiplies unsigned by signed bytes and adds pairs into int16, saturating.
struct MaddDots {
  // Whether dots of this packing lack the zero point; whether they start from kDotStart (else 0).
  static constexpr bool lacks_zero_point(Packing packing) {
    return packing == Packing::kInt4Symmetric || packing == Packing::kWideHalves;
  }
  static constexpr bool starts_biased(Packing) { return false; }

  // Dots of kWords words. `words` and `quants` are where their activations and weights begin.
  template <Packing kPacking, uint32_t kWords, uint32_t kTokens>
  static inline __attribute__((always_inline)) void dot(__m256i (&dots)[kTokens][kHalves],
                                                        const uint8_t* words, const uint8_t* quants) {
    if constexpr (kPacking == Packing::kInt8Symmetric) {
      bytes(dots, words, quants);
    } else if constexpr (is_working(kPacking)) {
      small_bytes<kWords>(dots, words, quants);
    } else {
      nibbles(dots, words, quants);
    }
  }

  // Makes a sum where it stands. Compilers know that integers may be added in any order, and would compute
  // the products of all words first and keep them in memory.
  static inline __attribute__((always_inline)) void settle(__m256i& sum) { asm("" : "+x"(sum)); }

  // A pair of products of 0..15 and -127..127 is at most 3810, so the 8 words of a group fit int16 (30480)
  // and are widened once a group.
  template <uint32_t kTokens>
  static inline __attribute__((always_inline)) void nibbles(__m256i (&dots)[kTokens][kHalves],
                                                            const uint8_t* words, const uint8_t* quants) {
    const __m256i nibble = _mm256_set1_epi8(15);
#pragma GCC unroll 8
    for (uint32_t word = 0; word < kWordsPerGroup; word++) {
      __m256i weights[kHalves];
#pragma GCC unroll 2
      for (uint32_t h = 0; h < kHalves; h++) {
        weights[h] = load_half_line(quants + word / 2 * 64 + h * 32);
        if (word % 2 == 1) weights[h] = _mm256_srli_epi16(weights[h], 4);
        weights[h] = _mm256_and_si256(weights[h], nibble);
      }
#pragma GCC unroll 16
      for (uint32_t i = 0; i < kTokens; i++) {
        const __m256i x = eight_of_word(words, word * kTokens + i);
#pragma GCC unroll 2
        for (uint32_t h = 0; h < kHalves; h++) {
          const __m256i pairs = _mm256_maddubs_epi16(weights[h], x);
          dots[i][h] = word == 0 ? pairs : _mm256_add_epi16(dots[i][h], pairs);
          settle(dots[i][h]);
        }
      }
    }
    const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 16
    for (uint32_t i = 0; i < kTokens; i++) {
#pragma GCC unroll 2
      for (uint32_t h = 0; h < kHalves; h++) dots[i][h] = _mm256_madd_epi16(dots[i][h], ones);
    }
  }

  // A pair of products of 0..63 and -127..127 is at most 16002, so two words fit int16.
  template <uint32_t kWords, uint32_t kTokens>
  static inline __attribute__((always_inline)) void small_bytes(__m256i (&dots)[kTokens][kHalves],
                                                                const uint8_t* words, const uint8_t* quants) {
    const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 4
    for (uint32_t word = 0; word < kWords; word += 2) {
      __m256i weights[2][kHalves];
#pragma GCC unroll 2
      for (uint32_t h = 0; h < kHalves; h++) {
        weights[0][h] = load_half_line(quants + word * 64 + h * 32);
        weights[1][h] = load_half_line(quants + (word + 1) * 64 + h * 32);
      }
#pragma GCC unroll 16
      for (uint32_t i = 0; i < kTokens; i++) {
        const __m256i x = eight_of_word(words, word * kTokens + i);
        const __m256i y = eight_of_word(words, (word + 1) * kTokens + i);
#pragma GCC unroll 2
        for (uint32_t h = 0; h < kHalves; h++) {
          const __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16(weights[0][h], x),
                                                 _mm256_maddubs_epi16(weights[1][h], y));
          const __m256i eights = _mm256_madd_epi16(pairs, ones);
          dots[i][h] = word == 0 ? eights : _mm256_add_epi32(dots[i][h], eights);
          settle(dots[i][h]);
        }
      }
    }
  }

  // The weight's sign goes to the activation: |w| * (x * sign w). A pair is at most 2 * 128 * 127 = 32512,
  // which fits int16 alone, so every word is widened. The weight is made signed first, so no zero point
  // remains.
  template <uint32_t kTokens>
  static inline __attribute__((always_inline)) void bytes(__m256i (&dots)[kTokens][kHalves],
                                                          const uint8_t* words, const uint8_t* quants) {
    const __m256i offset = _mm256_set1_epi8(static_cast<char>(0x80));
    const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 8
    for (uint32_t word = 0; word < kWordsPerGroup; word++) {
      __m256i weights[kHalves];
#pragma GCC unroll 2
      for (uint32_t h = 0; h < kHalves; h++) {
        weights[h] = _mm256_xor_si256(load_half_line(quants + word * 64 + h * 32), offset);
      }
#pragma GCC unroll 16
      for (uint32_t i = 0; i < kTokens; i++) {
        const __m256i x = eight_of_word(words, word * kTokens + i);
#pragma GCC unroll 2
        for (uint32_t h = 0; h < kHalves; h++) {
          const __m256i pairs =
              _mm256_maddubs_epi16(_mm256_abs_epi8(weights[h]), _mm256_sign_epi8(x, weights[h]));
          const __m256i fours = _mm256_madd_epi16(pairs, ones);
          dots[i][h] = word == 0 ? fours : _mm256_add_epi32(dots[i][h], fours);
          settle(dots[i][h]);
        }
      }
    }
  }
};

struct Shapes : DotShapes<MaddDots> {
  static constexpr char kName[] = "avx2";
  static constexpr auto supported = has_avx2;

  // 16 registers: 6 by 2 dots, two halves of a line of weights, an activation, a product.
  static constexpr uint32_t kWidestInteger = 6;
};

}  // namespace

constinit const Kernels kAvx2Kernels = FamilyTable<Shapes>::table();

}  // namespace streamserve
