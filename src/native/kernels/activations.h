// Fills activation panels: plain, after RMSNorm, after SiLU(gate) * up or GELU(gate) * up. Include after a
// lanes_*.h.
#pragma once

#include "exponential.h"
#include "layout.h"
#include "quantise_groups.h"

namespace streamserve {
namespace {

// The part of the panel of `token` that begins with it and ends before token `end`.
inline PanelPart panel_part(const Activations& a, uint32_t widest, uint32_t token, uint32_t end) {
  const PanelSplit split = split_panels(a.tokens, widest);
  const uint32_t panel = split.panel_of(token);
  const uint32_t first = split.begin(panel);
  const uint32_t width = split.tokens(panel);
  const uint32_t left = first + width - token;
  return {a.data + first * token_bytes(a.packing, a.cols), width, token - first,
          end - token < left ? end - token : left};
}

// So few tokens are not stored as they lie in a panel, side by side: groups are quantised side by side
// instead.
inline constexpr uint32_t kFewTokens = 7;

// Calls `put(groups, group, token of the part, item)` for every group of k in [begin, end) and every token of
// a part, and `done(groups, group, how many of k)` after at most sixteen of them.
template <typename Put, typename Done>
inline void each_groups_at_once(const PanelPart& part, uint32_t begin, uint32_t end, Put put, Done done) {
  const uint32_t most = part.count > kFewTokens ? 1 : kLanes / part.count;
  GroupsAtOnce groups;
  for (uint32_t group = begin; group < end; group += most) {
    const uint32_t here = end - group < most ? end - group : most;
    for (uint32_t g = 0; g < here; g++) {
      for (uint32_t t = 0; t < part.count; t++) put(groups, group + g, t, g * part.count + t);
    }
    groups.round();
    done(groups, group, here);
  }
}

// Writes columns [begin, end) of a part's tokens, whose 16 values from column begin + k on `value(token of
// the part, k, count)` computes (count of them are wanted).
template <typename Value>
inline void fill_part(const Activations& out, const PanelPart& part, uint32_t begin, uint32_t end,
                      Value value) {
  if (is_quantised(out.packing)) {
    each_groups_at_once(
        part, begin / kGroup, end / kGroup,
        [&](GroupsAtOnce& groups, uint32_t group, uint32_t t, uint32_t item) {
          const uint32_t k = group * kGroup - begin;
          groups.put(item, value(t, k, kLanes), value(t, k + kLanes, kLanes));
        },
        [&](const GroupsAtOnce& groups, uint32_t group, uint32_t count) {
          groups.store_groups(out.packing, part, group, count);
        });
    return;
  }
  auto* panel = reinterpret_cast<float*>(part.panel);
  for (uint32_t t = 0; t < part.count; t++) {
    for (uint32_t k = 0; k < end - begin; k += kLanes) {
      const uint32_t left = end - begin - k;
      const uint32_t count = left < kLanes ? left : kLanes;
      alignas(64) float values[kLanes];
      store(values, value(t, k, count));
      for (uint32_t i = 0; i < count; i++)
        panel[(begin + k + i) * static_cast<size_t>(part.width) + part.index + t] = values[i];
    }
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
  static_assert(kWidestInt <= kLanes);

  static uint32_t widest(Packing packing) { return is_quantised(packing) ? kWidestInt : kWidestFloat; }

  static size_t bytes(Packing packing, uint32_t tokens, uint32_t cols) {
    return tokens * token_bytes(packing, cols);
  }

  // Calls `run(part, its first token's number in the range)` for each panel of [begin, end).
  template <typename Run>
  static void each_part(uint32_t begin, uint32_t end, const Activations& out, Run run) {
    for (uint32_t token = begin; token < end;) {
      const PanelPart part = panel_part(out, widest(out.packing), token, end);
      run(part, token - begin);
      token += part.count;
    }
  }

  // Calls value(token of the range, k, count) for all values of a range.
  template <typename Value>
  static void fill(const ActivationRange& range, const Activations& out, Value value) {
    each_part(range.token_begin, range.token_end, out, [&](const PanelPart& part, uint32_t first) {
      fill_part(out, part, range.col_begin, range.col_end,
                [&](uint32_t t, uint32_t k, uint32_t count) { return value(first + t, k, count); });
    });
  }

  static void plain(const float* x, size_t stride, const ActivationRange& range, const Activations& out) {
    fill(range, out,
         [&](uint32_t row, uint32_t k, uint32_t count) { return load_tail(x + row * stride + k, count); });
  }

  static void plain_and_rest(const float* x, size_t stride, const ActivationRange& range,
                             const Activations& out, const Activations& rest) {
    each_part(range.token_begin, range.token_end, out, [&](const PanelPart& part, uint32_t first) {
      const PanelPart rest_part =
          panel_part(rest, kWidestInt, range.token_begin + first, range.token_begin + first + part.count);
      each_groups_at_once(
          part, range.col_begin / kGroup, range.col_end / kGroup,
          [&](GroupsAtOnce& groups, uint32_t group, uint32_t t, uint32_t item) {
            const float* from = x + (first + t) * stride + group * kGroup - range.col_begin;
            groups.put(item, load(from), load(from + kLanes));
          },
          [&](GroupsAtOnce& groups, uint32_t group, uint32_t count) {
            groups.store_groups(out.packing, part, group, count);
            for (uint32_t item = 0; item < count * part.count; item++) groups.put_rest(item);
            groups.round();
            groups.store_groups(rest.packing, rest_part, group, count);
          });
    });
  }

  static void norm(const float* x, size_t stride, const float* weight, float epsilon, uint32_t token_begin,
                   uint32_t token_end, const Activations& out) {
    each_part(token_begin, token_end, out, [&](const PanelPart& part, uint32_t first) {
      const float* rows = x + first * stride;
      float inverses[kWidestInt > kWidestFloat ? kWidestInt : kWidestFloat];
      for (uint32_t t = 0; t < part.count; t++) {
        inverses[t] = inverse_rms(rows + t * stride, out.cols, epsilon);
      }
      fill_part(out, part, 0, out.cols, [&](uint32_t t, uint32_t k, uint32_t count) {
        return multiply(multiply(load_tail(rows + t * stride + k, count), broadcast(inverses[t])),
                        load_tail(weight + k, count));
      });
    });
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
