// Rotary position embedding: which frequencies a file asks for.
#pragma once

#include <cstdint>
#include <vector>

namespace streamserve {

enum class RopeScaling : uint8_t {
  kNone,
  kLinear,  // positions are divided by the factor
  kYarn,    // slow dimensions are divided, fast ones are kept: Peng et al., arXiv 2309.00071
};

struct Rope {
  double base = 10000;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1;
  // Cosines and sines are multiplied by it, so scores are by its square.
  double attention_factor = 1;
  // The context that the model was trained for before it was extended.
  double original_context = 0;
  // YaRN: full turns in that context from which a dimension counts as fast, or up to which as slow.
  double fast_turns = 32;
  double slow_turns = 1;
};

// Radians a position, of `rotated` / 2 pairs of dimensions. `divisors` divides each, nullptr for none.
std::vector<double> rope_frequencies(const Rope& rope, uint32_t rotated, const float* divisors);

}  // namespace streamserve
