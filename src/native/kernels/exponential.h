// exp and 2^x by one polynomial, the same operations in every family. Include after a lanes_*.h.
//
// 2^x = 2^n * 2^r, n = round(x), |r| <= 1/2; 2^r by a polynomial of degree 6 interpolated at Chebyshev
// nodes (relative error 9e-9 before rounding). exp_lanes carries the rounding error of x * log2(e) along, so
// both stay within 2e-7 relative error; the tests sweep them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace streamserve {
namespace {

// 1.5 * 2^23: adding it rounds to an integer, left in the low bits of the sum.
inline constexpr float kRoundingShift = 12582912.0F;

// 2^r on |r| <= 1/2, constant term first; the constant is 1, so that 2^0 is exactly 1.
inline constexpr float kExp2Coefficients[7] = {
    1.0F, 0x1.62e43p-1F, 0x1.ebfbep-3F, 0x1.c6af6cp-5F, 0x1.3b2a1cp-7F, 0x1.5f0896p-10F, 0x1.444004p-13F};

inline Lanes exp2_parts(const Lanes& shifted, const Lanes& r) {
  Lanes p = broadcast(kExp2Coefficients[6]);
  for (int i = 5; i >= 0; i--) p = fused(p, r, broadcast(kExp2Coefficients[i]));
  return add_exponent(p, shifted);
}

// 2^x for x <= 127; below -126 it is 2^-126, and NaN stays NaN.
inline Lanes exp2_lanes(const Lanes& x) {
  const Lanes clamped = maximum(broadcast(-126.0F), x);
  const Lanes shifted = add(clamped, broadcast(kRoundingShift));
  const Lanes r = subtract(clamped, subtract(shifted, broadcast(kRoundingShift)));
  return exp2_parts(shifted, r);
}

// e^x, clamped to 2^-126..2^127; NaN stays NaN.
inline Lanes exp_lanes(const Lanes& x) {
  const Lanes clamped = minimum(broadcast(88.0F), maximum(broadcast(-87.3F), x));
  const Lanes log2e = broadcast(1.44269502F);
  const Lanes product = multiply(clamped, log2e);
  const Lanes error = fused(clamped, log2e, subtract(zero(), product));
  const Lanes shifted = add(product, broadcast(kRoundingShift));
  const Lanes r = subtract(product, subtract(shifted, broadcast(kRoundingShift)));
  // log2(e) = 1.44269502 + 1.925963e-8
  return exp2_parts(shifted, add(r, fused(clamped, broadcast(1.925963033e-8F), error)));
}

// cap * tanh(x / cap) as cap * (1 - 2 / (1 + e^(2x / cap))): right to some units of 1e-7 of the cap.
inline Lanes soft_cap_lanes(const Lanes& x, float cap) {
  const Lanes grown = add(broadcast(1.0F), exp_lanes(multiply(x, broadcast(2.0F / cap))));
  return multiply(subtract(broadcast(1.0F), divide(broadcast(2.0F), grown)), broadcast(cap));
}

inline void soft_cap(float* x, size_t count, float cap) {
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(x + i, soft_cap_lanes(load(x + i), cap));
  const auto rest = static_cast<uint32_t>(count - i);
  if (rest > 0) store_some(x + i, soft_cap_lanes(load_some(x + i, rest), cap), rest);
}

inline double exp_sum(const float* x, size_t count, float peak, float scale) {
  const auto terms = [&](const Lanes& values) {
    return exp_lanes(multiply(subtract(values, broadcast(peak)), broadcast(scale)));
  };
  // So few floats are added up that their rounding stays below the rest of the error.
  constexpr size_t kTogether = size_t{8} * kLanes;
  double total = 0;
  size_t i = 0;
  while (i + kLanes <= count) {
    Lanes together = zero();
    for (const size_t end = i + kTogether; i < end && i + kLanes <= count; i += kLanes) {
      together = add(together, terms(load(x + i)));
    }
    total += static_cast<double>(sum(together));
  }
  const auto rest = static_cast<uint32_t>(count - i);
  if (rest > 0) total += static_cast<double>(sum(keep_first(terms(load_some(x + i, rest)), rest, zero())));
  return total;
}

}  // namespace
}  // namespace streamserve
