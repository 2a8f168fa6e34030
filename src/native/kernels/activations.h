// Fills activation panels: plain, after RMSNorm, after SiLU(gate) * up or GELU(gate) * up. Include after a
// lanes_*.h.
#pragma once

#include "exponential.h"
#include "layout.h"

namespace streamserve {
namespace {

// A group whose largest magnitude is below this is taken as zero: its scale would not be a normal number.
inline constexpr float kSmallestMagnitude = 0x1p-110F;
inline constexpr uint32_t kInfinityBits = 0x7F800000U;
// Adding and subtracting it rounds to the nearest whole number, ties to even, for magnitudes up to 2^22.
inline constexpr float kRounder = 0x1.8p23F;

// How values whose largest magnitude has these bits become int8: as round(x * inverse), worth `scale` each.
// `inverse` is 0 where they become 0: because they are too small, or, with a scale that is NaN, not finite.
struct Int8Scale {
  float scale;
  float inverse;
};

inline Int8Scale int8_scale(uint32_t largest_bits) {
  const float largest = __builtin_bit_cast(float, largest_bits);
  if (largest_bits >= kInfinityBits) return {__builtin_nanf(""), 0.0F};
  if (largest < kSmallestMagnitude) return {0.0F, 0.0F};
  return {largest / 127.0F, 127.0F / largest};
}

// Where one token lies in the panels.
struct TokenSlot {
  uint8_t* panel;
  uint32_t width;
  uint32_t index;
};

inline TokenSlot token_slot(const Activations& a, uint32_t widest, uint32_t token) {
  const PanelSplit split = split_panels(a.tokens, widest);
  const uint32_t panel = split.panel_of(token);
  const uint32_t first = split.begin(panel);
  return {a.data + first * token_bytes(a.packing, a.cols), split.tokens(panel), token - first};
}

// Quantises 32 values to int8 with scale = largest / 127; returns it and its inverse. Values that are not
// finite make the scale NaN, so that they show in every output instead of vanishing.
inline Int8Scale quantise_group(const Lanes& a, const Lanes& b, Packing packing, const TokenSlot& slot,
                                uint32_t group) {
  const Packing working = working_packing(packing);
  uint8_t* base = slot.panel + static_cast<size_t>(group) * slot.width * activation_group_bytes(packing);
  alignas(64) int8_t quants[kGroup] = {};
  const Int8Scale made = int8_scale(largest_magnitude_bits(a, b));
  const auto [scale, inverse] = made;
  int32_t first = 0;
  int32_t rest = 0;
  if (inverse > 0.0F) {
    const Lanes factor = broadcast(inverse);
    first = round_to_int8(multiply(a, factor), quants);
    rest = round_to_int8(multiply(b, factor), quants + kLanes);
  }
  for (uint32_t word = 0; word < kWordsPerGroup; word++) {
    std::memcpy(base + (word * slot.width + slot.index) * kWord, quants + word * kWord, kWord);
  }
  uint8_t* scales = base + static_cast<size_t>(slot.width) * kGroup;
  std::memcpy(scales + slot.index * sizeof(float), &scale, sizeof(float));
  uint8_t* correction = scales + (slot.width + slot.index) * sizeof(float);
  const auto put = [&](auto value) { std::memcpy(correction, &value, sizeof(value)); };
  if (is_affine(working)) {
    put(scale * static_cast<float>(first + rest));
  } else if (working == Packing::kWideHalves) {
    put(kDotStart - zero_point(working) * first);
    correction += slot.width * sizeof(int32_t);
    put(kDotStart - zero_point(working) * rest);
  } else {
    put(kDotStart - zero_point(working) * (first + rest));
  }
  return made;
}

// What is left of values once they are kept as int8 of this scale.
inline Lanes rest_of(const Lanes& x, const Int8Scale& scale) {
  if (!(scale.inverse > 0.0F)) return zero();
  const Lanes rounder = broadcast(kRounder);
  const Lanes rounded = subtract(add(multiply(x, broadcast(scale.inverse)), rounder), rounder);
  return subtract(x, multiply(rounded, broadcast(scale.scale)));
}

// Writes columns [begin, end) of a row of activations, whose 16 values from column begin + k on `value(k,
// count)` computes (count of them are wanted).
template <typename Value>
inline void fill_token(const Activations& out, uint32_t widest, uint32_t token, uint32_t begin, uint32_t end,
                       Value value) {
  const TokenSlot slot = token_slot(out, widest, token);
  if (is_quantised(out.packing)) {
    for (uint32_t k = 0; k < end - begin; k += kGroup) {
      quantise_group(value(k, kLanes), value(k + kLanes, kLanes), out.packing, slot, (begin + k) / kGroup);
    }
    return;
  }
  auto* panel = reinterpret_cast<float*>(slot.panel);
  for (uint32_t k = 0; k < end - begin; k += kLanes) {
    const uint32_t left = end - begin - k;
    const uint32_t count = left < kLanes ? left : kLanes;
    alignas(64) float values[kLanes];
    store(values, value(k, count));
    for (uint32_t i = 0; i < count; i++)
      panel[(begin + k + i) * static_cast<size_t>(slot.width) + slot.index] = values[i];
  }
}

// load for whole vectors, load_some for the tail of a row.
inline Lanes load_tail(const float* from, uint32_t count) {
  return count == kLanes ? load(from) : load_some(from, count);
}

// 1 / sqrt(mean of squares + epsilon). Squares are summed in two vectors (k mod 32), each in order of k.
inline float inverse_rms(const float* x, uint32_t cols, float epsilon) {
  Lanes even = zero();
  Lanes odd = zero();
  for (uint32_t k = 0; k < cols; k += 2 * kLanes) {
    const uint32_t left = cols - k;
    const Lanes a = load_tail(x + k, left < kLanes ? left : kLanes);
    even = fused(a, a, even);
    if (left > kLanes) {
      const Lanes b = load_tail(x + k + kLanes, left < 2 * kLanes ? left - kLanes : kLanes);
      odd = fused(b, b, odd);
    }
  }
  const float mean = sum(add(even, odd)) / static_cast<float>(cols);
  return 1.0F / __builtin_sqrtf(mean + epsilon);
}

template <uint32_t kWidestInt, uint32_t kWidestFloat>
struct ActivationKernels {
  static uint32_t widest(Packing packing) { return is_quantised(packing) ? kWidestInt : kWidestFloat; }

  static size_t bytes(Packing packing, uint32_t tokens, uint32_t cols) {
    return tokens * token_bytes(packing, cols);
  }

  // Calls value(token of the range, k, count) for all values of a range.
  template <typename Value>
  static void fill(const ActivationRange& range, const Activations& out, Value value) {
    for (uint32_t token = range.token_begin; token < range.token_end; token++) {
      fill_token(out, widest(out.packing), token, range.col_begin, range.col_end,
                 [&](uint32_t k, uint32_t count) { return value(token - range.token_begin, k, count); });
    }
  }

  static void plain(const float* x, size_t stride, const ActivationRange& range, const Activations& out) {
    fill(range, out,
         [&](uint32_t row, uint32_t k, uint32_t count) { return load_tail(x + row * stride + k, count); });
  }

  static void plain_and_rest(const float* x, size_t stride, const ActivationRange& range,
                             const Activations& out, const Activations& rest) {
    for (uint32_t token = range.token_begin; token < range.token_end; token++) {
      const float* row = x + (token - range.token_begin) * stride;
      const TokenSlot slot = token_slot(out, kWidestInt, token);
      const TokenSlot rest_slot = token_slot(rest, kWidestInt, token);
      for (uint32_t k = 0; k < range.col_end - range.col_begin; k += kGroup) {
        const Lanes a = load(row + k);
        const Lanes b = load(row + k + kLanes);
        const uint32_t group = (range.col_begin + k) / kGroup;
        const Int8Scale scale = quantise_group(a, b, out.packing, slot, group);
        quantise_group(rest_of(a, scale), rest_of(b, scale), rest.packing, rest_slot, group);
      }
    }
  }

  static void norm(const float* x, size_t stride, const float* weight, float epsilon, uint32_t token_begin,
                   uint32_t token_end, const Activations& out) {
    for (uint32_t token = token_begin; token < token_end; token++) {
      const float* row = x + (token - token_begin) * stride;
      const Lanes inverse = broadcast(inverse_rms(row, out.cols, epsilon));
      fill_token(out, widest(out.packing), token, 0, out.cols, [&](uint32_t k, uint32_t count) {
        return multiply(multiply(load_tail(row + k, count), inverse), load_tail(weight + k, count));
      });
    }
  }

  static void silu(const float* gate, const float* up, size_t stride, const ActivationRange& range,
                   const Activations& out) {
    fill(range, out, [&](uint32_t row, uint32_t k, uint32_t count) {
      const Lanes g = load_tail(gate + row * stride + k, count);
      const Lanes denominator = add(broadcast(1.0F), exp_lanes(subtract(zero(), g)));
      return multiply(divide(g, denominator), load_tail(up + row * stride + k, count));
    });
  }

  // x (1 + tanh(u)) / 2 = x / (1 + e^-2u), u = sqrt(2/pi) (x + 0.044715 x^3).
  static void gelu(const float* gate, const float* up, size_t stride, const ActivationRange& range,
                   const Activations& out) {
    fill(range, out, [&](uint32_t row, uint32_t k, uint32_t count) {
      const Lanes g = load_tail(gate + row * stride + k, count);
      const Lanes cubic = fused(multiply(g, g), broadcast(0.044715F), broadcast(1.0F));
      const Lanes exponent = multiply(multiply(g, cubic), broadcast(-1.59576912F));
      const Lanes denominator = add(broadcast(1.0F), exp_lanes(exponent));
      return multiply(divide(g, denominator), load_tail(up + row * stride + k, count));
    });
  }
};

}  // namespace
}  // namespace streamserve
