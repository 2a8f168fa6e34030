// NEON with the int8 matrix instructions: Arm from Cortex-A510/A710 and Neoverse V1 and N2 on, Apple from M2
// on.
#include "families.h"
#include "lines_neon.h"
// Needs lanes and lines.
#include "family_table.h"
#include "integer_tiles_neon.h"
// Needs integer tiles.
#include "dot_shapes.h"

namespace streamserve {
namespace {

// usmmla multiplies 2 rows by 8 k of unsigned weights by 8 k of 2 tokens: twice the work of a dot
// instruction. Two words of four rows, zipped, are two such operands of weights; two words of two tokens, one
// of activations. One token has usdot.
struct MatrixDots {
  // Tokens of which a whole tile fits the registers: 16 accumulators, 8 operands of weights.
  static constexpr uint32_t kWholeTileTokens = 4;

  template <Packing kPacking>
  static inline __attribute__((always_inline)) int32_t start(const uint8_t* corrections, uint32_t token) {
    return is_affine(kPacking) ? kDotStart : value_at<int32_t>(corrections, token);
  }

  // Dots of kCount words. `words`, `quants` and `corrections` are where what belongs to them begins.
  template <Packing kPacking, uint32_t kCount, uint32_t kTokens, uint32_t kQuarters>
  static inline __attribute__((always_inline)) void dot(int32x4_t (&dots)[kTokens][kQuarters],
                                                        const uint8_t* words, const uint8_t* quants,
                                                        const uint8_t* corrections) {
    if constexpr (kTokens == 1) {
      single<kPacking, kCount>(dots, words, quants, corrections);
    } else {
      several<kPacking, kCount>(dots, words, quants, corrections);
    }
  }

  template <Packing kPacking, uint32_t kCount, uint32_t kQuarters>
  static inline __attribute__((always_inline)) void single(int32x4_t (&dots)[1][kQuarters],
                                                           const uint8_t* words, const uint8_t* quants,
                                                           const uint8_t* corrections) {
    for (int32x4_t& dot : dots[0]) dot = vdupq_n_s32(start<kPacking>(corrections, 0));
#pragma GCC unroll 4
    for (uint32_t pair = 0; pair < kCount / 2; pair++) {
      const auto [even, odd] = unpack_pair<kPacking, kQuarters>(quants, pair);
      const int8x8_t x = vld1_s8(reinterpret_cast<const int8_t*>(words) + 2 * pair * kWord);
#pragma GCC unroll 4
      for (uint32_t q = 0; q < kQuarters; q++) {
        dots[0][q] = vusdotq_lane_s32(dots[0][q], even[q], x, 0);
        dots[0][q] = vusdotq_lane_s32(dots[0][q], odd[q], x, 1);
      }
    }
  }

  template <Packing kPacking, uint32_t kCount, uint32_t kTokens, uint32_t kQuarters>
  static inline __attribute__((always_inline)) void several(int32x4_t (&dots)[kTokens][kQuarters],
                                                            const uint8_t* words, const uint8_t* quants,
                                                            const uint8_t* corrections) {
    // Of a pair of tokens and two rows: (row 0, token 0), (0, 1), (1, 0), (1, 1).
    constexpr uint32_t kPairs = (kTokens + 1) / 2;
    int32x4_t squares[kPairs][2 * kQuarters];
#pragma GCC unroll 8
    for (uint32_t p = 0; p < kPairs; p++) {
      const int32_t first = start<kPacking>(corrections, 2 * p);
      const int32_t second = 2 * p + 1 < kTokens ? start<kPacking>(corrections, 2 * p + 1) : first;
      const int32x2_t starts = vset_lane_s32(second, vdup_n_s32(first), 1);
#pragma GCC unroll 8
      for (int32x4_t& square : squares[p]) square = vcombine_s32(starts, starts);
    }
#pragma GCC unroll 4
    for (uint32_t pair = 0; pair < kCount / 2; pair++) {
      const auto [even, odd] = unpack_pair<kPacking, kQuarters>(quants, pair);
      uint8x16_t rows[2 * kQuarters];
#pragma GCC unroll 4
      for (uint32_t q = 0; q < kQuarters; q++) {
        rows[2 * q] = zip_low(even[q], odd[q]);
        rows[2 * q + 1] = zip_high(even[q], odd[q]);
      }
      multiply_words<0, kTokens>(squares, rows, words + 2 * pair * kTokens * kWord);
    }
#pragma GCC unroll 8
    for (uint32_t p = 0; p < kPairs; p++) {
#pragma GCC unroll 4
      for (uint32_t q = 0; q < kQuarters; q++) {
        dots[2 * p][q] = vuzp1q_s32(squares[p][2 * q], squares[p][2 * q + 1]);
        if (2 * p + 1 < kTokens) dots[2 * p + 1][q] = vuzp2q_s32(squares[p][2 * q], squares[p][2 * q + 1]);
      }
    }
  }

  // Tokens kFirst and on; of an odd number the last pair's second is not a token, and is dropped.
  template <uint32_t kFirst, uint32_t kTokens, uint32_t kPairs, uint32_t kRowPairs>
  static inline __attribute__((always_inline)) void multiply_words(int32x4_t (&squares)[kPairs][kRowPairs],
                                                                   const uint8x16_t (&rows)[kRowPairs],
                                                                   const uint8_t* words) {
    constexpr uint32_t kLeft = kTokens - kFirst;
    const uint8x16_t even = vreinterpretq_u8_s8(load_words<kLeft>(words + kFirst * kWord));
    const uint8x16_t odd = vreinterpretq_u8_s8(load_words<kLeft>(words + (kTokens + kFirst) * kWord));
    const int8x16_t first = vreinterpretq_s8_u8(zip_low(even, odd));
#pragma GCC unroll 8
    for (uint32_t r = 0; r < kRowPairs; r++) {
      squares[kFirst / 2][r] = vusmmlaq_s32(squares[kFirst / 2][r], rows[r], first);
    }
    if constexpr (kLeft > 2) {
      const int8x16_t second = vreinterpretq_s8_u8(zip_high(even, odd));
#pragma GCC unroll 8
      for (uint32_t r = 0; r < kRowPairs; r++) {
        squares[kFirst / 2 + 1][r] = vusmmlaq_s32(squares[kFirst / 2 + 1][r], rows[r], second);
      }
    }
    if constexpr (kLeft > 4) multiply_words<kFirst + 4, kTokens>(squares, rows, words);
  }

  static inline uint8x16_t zip_low(uint8x16_t a, uint8x16_t b) {
    return vreinterpretq_u8_u32(vzip1q_u32(vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b)));
  }
  static inline uint8x16_t zip_high(uint8x16_t a, uint8x16_t b) {
    return vreinterpretq_u8_u32(vzip2q_u32(vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b)));
  }
};

struct Shapes : DotShapes<MatrixDots> {
  static constexpr char kName[] = "neon-i8mm";
  static constexpr auto supported = has_neon_i8mm;

  // 32 registers: 24 accumulators of half a tile, four operands of weights, two of activations.
  static constexpr uint32_t kWidestInteger = 12;
};

}  // namespace

constinit const Kernels kNeonI8mmKernels = FamilyTable<Shapes>::table();

}  // namespace streamserve
