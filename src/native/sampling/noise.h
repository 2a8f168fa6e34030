// The noise of a draw: a pure function of (seed, position, token), so that a continuation is the same on
// whatever lane, batch or attempt it is drawn, with and without speculation.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace streamserve {

class Noise {
 public:
  // `position` is the absolute position in the sequence of the token to be drawn.
  Noise(uint64_t seed, uint64_t position) : key_(mix(mix(seed + kGolden) ^ (position + 1) * kGolden)) {}

  // 64 bits for one token.
  uint64_t bits(uint32_t token) const { return mix(key_ + (uint64_t{token} + 1) * kGolden); }

  // Standard Gumbel noise, -ln(-ln(1 - w)) with w uniform in (0, 1) at 52 bits, one fewer than a double holds
  // so that adding a half is exact. argmax of logit / T + gumbel is a draw from softmax(logit / T)
  // (Gumbel-max; Maddison, Tarlow and Minka, arXiv 1411.0030).
  static double gumbel(uint64_t bits) {
    const double w = (static_cast<double>(bits >> 12) + 0.5) * 0x1p-52;
    return -std::log(-std::log1p(-w));
  }

  // Never below gumbel(bits), at the price of a shift: -ln(1 - w) >= w >= 2^-(leading zeros + 1).
  static double bound(uint64_t bits) { return bound_of_zeros(std::countl_zero(bits | kLastCounted)); }
  // The same, of bits that begin with so many zeros, 0 to kMostZeros.
  static double bound_of_zeros(int zeros) { return kLn2 * (zeros + 1); }
  static constexpr int kMostZeros = 52;

 private:
  static constexpr uint64_t kLastCounted = uint64_t{1} << (63 - kMostZeros);
  static constexpr uint64_t kGolden = 0x9e3779b97f4a7c15;  // 2^64 / golden ratio: Weyl sequence of SplitMix64
  static constexpr double kLn2 = 0.693147180559945309;

  // Finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
  static uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
  }

  uint64_t key_;
};

}  // namespace streamserve
