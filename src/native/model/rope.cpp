#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace streamserve {
namespace {

// Ramps that would be shorter are made so long, in pairs of dimensions: nothing is divided by zero.
constexpr double kShortestRamp = 0.001;

// The pair of dimensions, as a real number, that turns `turns` times over the original context.
double pair_of_turns(const Rope& rope, uint32_t rotated, double turns) {
  return rotated * std::log(rope.original_context / (turns * 2 * std::numbers::pi)) /
         (2 * std::log(rope.base));
}

}  // namespace

std::vector<double> rope_frequencies(const Rope& rope, uint32_t rotated, const float* divisors) {
  double first = 0;
  double last = 0;
  if (rope.scaling == RopeScaling::kYarn) {
    first = std::max(0.0, std::floor(pair_of_turns(rope, rotated, rope.fast_turns)));
    last = std::min(rotated - 1.0, std::ceil(pair_of_turns(rope, rotated, rope.slow_turns)));
  }
  std::vector<double> frequencies;
  for (uint32_t i = 0; i < rotated / 2; ++i) {
    double frequency = std::pow(rope.base, -2.0 * i / rotated);
    if (rope.scaling == RopeScaling::kLinear) frequency /= rope.factor;
    if (rope.scaling == RopeScaling::kYarn) {
      const double slow = std::clamp((i - first) / std::max(kShortestRamp, last - first), 0.0, 1.0);
      frequency *= 1 - slow + slow / rope.factor;
    }
    frequencies.push_back(divisors ? frequency / divisors[i] : frequency);
  }
  return frequencies;
}

}  // namespace streamserve
