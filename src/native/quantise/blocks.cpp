#include "quantise/blocks.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/half.h"

namespace streamserve {
namespace {

constexpr uint32_t kBlock = 32;
// Fits of scale to rounded weights that follow each other, at most; two or three settle nearly all blocks.
constexpr int kRefits = 3;

// A candidate that is worse by so much is given up: refitting seldom makes up for more.
constexpr float kHopeless = 1.5;

struct Block {
  const float* values;
  const float* importance;
};

// w = scale * level + minimum, as f16 bits; levels count from the format's lowest.
struct Rounded {
  uint16_t scale = 0;
  uint16_t minimum = 0;
  int8_t levels[kBlock] = {};
  float error = INFINITY;
};

// To the nearest whole number, ties to even, for |x| < 2^22; plain arithmetic that compilers vectorise.
float nearest(float x) {
  constexpr float kShift = 12582912.0F;  // 1.5 * 2^23
  return (x + kShift) - kShift;
}

// Levels from lowest to highest for given scale and minimum.
template <int kLowest, int kHighest>
void assign(const Block& block, float scale, float minimum, float* levels) {
  const float inverse = scale != 0 ? 1 / scale : 0;
  for (uint32_t i = 0; i < kBlock; ++i) {
    const float level = (block.values[i] - minimum) * inverse;
    levels[i] = nearest(std::min(std::max(level, static_cast<float>(kLowest)), static_cast<float>(kHighest)));
  }
}

// Sums are kept in lanes by position, so that compilers vectorise them.
constexpr uint32_t kLanes = 8;

float total(const float (&lanes)[kLanes]) {
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

float error_of(const Block& block, float scale, float minimum, const float* levels) {
  float sums[kLanes] = {};
  for (uint32_t i = 0; i < kBlock; i += kLanes) {
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      const float off = scale * levels[i + lane] + minimum - block.values[i + lane];
      sums[lane] += block.importance[i + lane] * off * off;
    }
  }
  return total(sums);
}

// The scale, and for affine formats the minimum, that suit the levels best.
template <bool kAffine>
bool refit(const Block& block, const float* levels, float& scale, float& minimum) {
  float weights[kLanes] = {};
  float firsts[kLanes] = {};
  float squares[kLanes] = {};
  float values[kLanes] = {};
  float products[kLanes] = {};
  for (uint32_t i = 0; i < kBlock; i += kLanes) {
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      const float w = block.importance[i + lane];
      const float weighted = w * levels[i + lane];
      weights[lane] += w;
      firsts[lane] += weighted;
      squares[lane] += weighted * levels[i + lane];
      values[lane] += w * block.values[i + lane];
      products[lane] += weighted * block.values[i + lane];
    }
  }
  const double square = total(squares);
  const double product = total(products);
  if constexpr (!kAffine) {
    if (!(square > 0)) return false;
    scale = static_cast<float>(product / square);
    return true;
  }
  const double weight = total(weights);
  const double first = total(firsts);
  const double value = total(values);
  const double determinant = weight * square - first * first;
  // Levels that are all alike say nothing of the scale.
  if (!(determinant > 1e-5 * weight * square)) return false;
  scale = static_cast<float>((weight * product - first * value) / determinant);
  minimum = static_cast<float>((square * value - first * product) / determinant);
  return true;
}

// Follows one candidate to where refitting helps no more, and keeps the best that it meets.
template <int kLowest, int kHighest, bool kAffine>
void follow(const Block& block, float scale, float minimum, Rounded& best) {
  float levels[kBlock];
  float last = INFINITY;
  for (int round = 0; round < kRefits; ++round) {
    const uint16_t scale_bits = f32_to_f16(scale);
    const uint16_t minimum_bits = f32_to_f16(minimum);
    const float kept_scale = f16_to_f32(scale_bits);
    const float kept_minimum = f16_to_f32(minimum_bits);
    assign<kLowest, kHighest>(block, kept_scale, kept_minimum, levels);
    const float error = error_of(block, kept_scale, kept_minimum, levels);
    if (error < best.error) {
      best.scale = scale_bits;
      best.minimum = minimum_bits;
      best.error = error;
      for (uint32_t i = 0; i < kBlock; ++i) best.levels[i] = static_cast<int8_t>(levels[i]);
    }
    if (!(error < last) || error > kHopeless * best.error || !refit<kAffine>(block, levels, scale, minimum))
      return;
    last = error;
  }
}

// Symmetric: the largest value comes to lie on a level near the lowest or the highest.
template <int kLowest, int kHighest>
Rounded search_symmetric(const Block& block, float span, float step) {
  const float* largest = std::max_element(block.values, block.values + kBlock,
                                          [](float a, float b) { return std::fabs(a) < std::fabs(b); });
  Rounded best;
  if (*largest == 0) {
    best.error = 0;
    return best;
  }
  follow<kLowest, kHighest, false>(block, *largest / static_cast<float>(kLowest), 0, best);
  const int steps = static_cast<int>(span / step);
  for (int i = -steps; i <= steps; ++i) {
    const float off = static_cast<float>(i) * step;
    follow<kLowest, kHighest, false>(block, *largest / (static_cast<float>(kLowest) + off), 0, best);
    follow<kLowest, kHighest, false>(block, *largest / (static_cast<float>(kHighest) + off), 0, best);
  }
  return best;
}

Rounded search_affine(const Block& block) {
  constexpr int kHighest = 15;
  constexpr int kSteps = 4;
  constexpr float kStep = 0.5;
  const auto [low, high] = std::minmax_element(block.values, block.values + kBlock);
  Rounded best;
  follow<0, kHighest, true>(block, (*high - *low) / kHighest, *low, best);
  for (int i = -kSteps; i <= kSteps; ++i) {
    const float scale = (*high - *low) / (kHighest + static_cast<float>(i) * kStep);
    // Centred, and with either end held.
    const float middle = (*low + *high) / 2 - scale * kHighest / 2;
    for (const float minimum : {middle, *low, *high - scale * kHighest}) {
      follow<0, kHighest, true>(block, scale, minimum, best);
    }
  }
  return best;
}

uint8_t* write_u16(uint8_t* out, uint16_t value) {
  std::memcpy(out, &value, sizeof value);
  return out + sizeof value;
}

// k in the low nibbles, k + 16 in the high ones.
uint8_t* write_nibbles(uint8_t* out, const Rounded& rounded, int lowest) {
  for (uint32_t k = 0; k < kBlock / 2; ++k) {
    const int low = rounded.levels[k] - lowest;
    const int high = rounded.levels[k + kBlock / 2] - lowest;
    *out++ = static_cast<uint8_t>(low | high << 4);
  }
  return out;
}

uint8_t* write_block(Format format, const Block& block, uint8_t* out) {
  if (format == Format::kQ8_0) {
    const Rounded rounded = search_symmetric<-127, 127>(block, 2, 0.5);
    out = write_u16(out, rounded.scale);
    std::memcpy(out, rounded.levels, kBlock);
    return out + kBlock;
  }
  if (format == Format::kQ4_0) {
    const Rounded rounded = search_symmetric<-8, 7>(block, 1.5, 0.25);
    return write_nibbles(write_u16(out, rounded.scale), rounded, -8);
  }
  const Rounded rounded = search_affine(block);
  return write_nibbles(write_u16(write_u16(out, rounded.scale), rounded.minimum), rounded, 0);
}

void write_floats(Format format, std::span<const float> row, uint8_t* out) {
  if (format == Format::kF32) {
    std::memcpy(out, row.data(), row.size_bytes());
    return;
  }
  for (const float value : row) {
    out = write_u16(out, format == Format::kBF16 ? f32_to_bf16(value) : f32_to_f16(value));
  }
}

}  // namespace

bool can_quantise(Format format) {
  switch (format) {
    case Format::kF32:
    case Format::kF16:
    case Format::kBF16:
    case Format::kQ8_0:
    case Format::kQ4_0:
    case Format::kQ4_1:
      return true;
    default:
      return false;
  }
}

void quantise_row(Format format, std::span<const float> row, std::span<const float> importance,
                  uint8_t* out) {
  if (format == Format::kF32 || format == Format::kF16 || format == Format::kBF16) {
    write_floats(format, row, out);
    return;
  }
  float alike[kBlock];
  std::fill(std::begin(alike), std::end(alike), 1.0F);
  for (size_t k = 0; k < row.size(); k += kBlock) {
    out = write_block(format, {row.data() + k, importance.empty() ? alike : importance.data() + k}, out);
  }
}

}  // namespace streamserve
