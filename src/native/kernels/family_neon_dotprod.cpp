// NEON with the dot product instructions: Arm from Cortex-A75 and Neoverse N1 on, Apple from M1 on.
#include "families.h"
#include "lines_neon.h"
// Needs lanes and lines.
#include "family_table.h"
#include "integer_tiles_neon.h"
// Needs integer tiles.
#include "dot_shapes.h"

namespace streamserve {
namespace {

// sdot multiplies signed by signed bytes and adds fours into int32. 0..63 are the same signed; int8 weights
// are made signed, so that no zero point remains.
struct SignedDots {
  // Tokens of which a whole tile fits the registers: 16 dots, two words of weights, activations.
  static constexpr uint32_t kWholeTileTokens = 4;

  // Dots of kCount words. `words`, `quants` and `corrections` are where what belongs to them begins.
  template <Packing kPacking, uint32_t kCount, uint32_t kTokens, uint32_t kQuarters>
  static inline __attribute__((always_inline)) void dot(int32x4_t (&dots)[kTokens][kQuarters],
                                                        const uint8_t* words, const uint8_t* quants,
                                                        const uint8_t* corrections) {
    constexpr bool kBiased = is_affine(kPacking) || kPacking == Packing::kInt8Symmetric;
#pragma GCC unroll 16
    for (uint32_t i = 0; i < kTokens; i++) {
      const int32_t start = kBiased ? kDotStart : value_at<int32_t>(corrections, i);
#pragma GCC unroll 4
      for (uint32_t q = 0; q < kQuarters; q++) dots[i][q] = vdupq_n_s32(start);
    }
    constexpr uint32_t kWords = kTokens * kWord;
#pragma GCC unroll 4
    for (uint32_t pair = 0; pair < kCount / 2; pair++) {
      const auto [even, odd] = unpack_pair<kPacking, kQuarters>(quants, pair);
      word<kPacking, 0>(dots, even, words + 2 * pair * kWords);
      word<kPacking, 0>(dots, odd, words + (2 * pair + 1) * kWords);
    }
  }

  // Tokens kFirst and on; four share a register.
  template <Packing kPacking, uint32_t kFirst, uint32_t kTokens, uint32_t kQuarters>
  static inline __attribute__((always_inline)) void word(int32x4_t (&dots)[kTokens][kQuarters],
                                                         const uint8x16_t (&weights)[kQuarters],
                                                         const uint8_t* words) {
    constexpr uint32_t kLeft = kTokens - kFirst;
    const int8x16_t x = load_words<kLeft>(words + kFirst * kWord);
#pragma GCC unroll 4
    for (uint32_t q = 0; q < kQuarters; q++) {
      const int8x16_t w = vreinterpretq_s8_u8(
          kPacking == Packing::kInt8Symmetric ? veorq_u8(weights[q], vdupq_n_u8(0x80)) : weights[q]);
      dots[kFirst][q] = vdotq_laneq_s32(dots[kFirst][q], w, x, 0);
      if constexpr (kLeft > 1) dots[kFirst + 1][q] = vdotq_laneq_s32(dots[kFirst + 1][q], w, x, 1);
      if constexpr (kLeft > 2) dots[kFirst + 2][q] = vdotq_laneq_s32(dots[kFirst + 2][q], w, x, 2);
      if constexpr (kLeft > 3) dots[kFirst + 3][q] = vdotq_laneq_s32(dots[kFirst + 3][q], w, x, 3);
    }
    if constexpr (kLeft > 4) word<kPacking, kFirst + 4>(dots, weights, words);
  }
};

struct Shapes : DotShapes<SignedDots> {
  static constexpr char kName[] = "neon-dotprod";
  static constexpr auto supported = has_neon_dotprod;

  // 32 registers: 16 dots of half a tile leave some for the scaling; more tokens made compilers spill.
  static constexpr uint32_t kWidestInteger = 8;
};

}  // namespace

constinit const Kernels kNeonDotprodKernels = FamilyTable<Shapes>::table();

}  // namespace streamserve
