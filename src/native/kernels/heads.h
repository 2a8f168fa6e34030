// What happens to one head between projection and attention: RoPE, and storing K and V. Include after a
// lanes_*.h.
#pragma once

#include "activations.h"
#include "attention.h"
#include "kernels.h"

namespace streamserve {
namespace {

inline void rope_interleaved(float* head, uint32_t rotated, const float* cosines, const float* sines) {
  for (uint32_t i = 0; i < rotated; i += kLanes) {
    const Lanes x = load(head + i);
    const Lanes crossed = multiply(swap_pairs(x), negate_even(load_twice(sines + i / 2)));
    store(head + i, fused(x, load_twice(cosines + i / 2), crossed));
  }
}

inline void rope_halves(float* head, uint32_t rotated, const float* cosines, const float* sines) {
  const uint32_t half = rotated / 2;
  for (uint32_t i = 0; i < half; i += kLanes) {
    const uint32_t count = half - i < kLanes ? half - i : kLanes;
    const Lanes low = load_some(head + i, count);
    const Lanes high = load_some(head + half + i, count);
    const Lanes c = load_some(cosines + i, count);
    const Lanes s = load_some(sines + i, count);
    store_some(head + i, fused(low, c, multiply(high, subtract(zero(), s))), count);
    store_some(head + half + i, fused(high, c, multiply(low, s)), count);
  }
}

inline void rope(float* x, uint32_t heads, uint32_t head_dim, uint32_t rotated, const float* cosines,
                 const float* sines, RopeStyle style) {
  auto* rotate = style == RopeStyle::kInterleaved ? rope_interleaved : rope_halves;
  for (uint32_t head = 0; head < heads; head++) {
    rotate(x + static_cast<size_t>(head) * head_dim, rotated, cosines, sines);
  }
}

// Calls `columns(first)` for each kColumnRows tokens of a run, of which there are at least so many: the last
// ones may be among those before, and are then stored twice.
template <typename Columns>
inline void each_column_rows(uint32_t tokens, Columns columns) {
  for (uint32_t t = 0; t < tokens; t += kColumnRows) {
    columns(t + kColumnRows <= tokens ? t : tokens - kColumnRows);
  }
}

template <KvFormat kFormat>
inline Halves halves_of(const Lanes& x) {
  if constexpr (kFormat == KvFormat::kFloat16) {
    return f16_of(x);
  } else {
    return bf16_of(x);
  }
}

template <KvFormat kFormat>
inline void store_kv_halves(const KvRun& run, uint32_t head_dim, uint32_t slot, uint16_t* keys,
                            uint16_t* values) {
  for (uint32_t t = 0; t < run.tokens; t++) {
    const float* value = run.value + t * run.stride;
    uint16_t* to = values + static_cast<size_t>(slot + t) * head_dim;
    for (uint32_t d = 0; d < head_dim; d += kLanes) store_halves(to + d, halves_of<kFormat>(load(value + d)));
  }
  if (run.tokens >= kColumnRows) {
    each_column_rows(run.tokens, [&](uint32_t first) {
      for (uint32_t d = 0; d < head_dim; d += kLanes) {
        Halves rows[kColumnRows];
#pragma GCC unroll 8
        for (uint32_t r = 0; r < kColumnRows; r++) {
          rows[r] = halves_of<kFormat>(load(run.key + (first + r) * run.stride + d));
        }
        store_half_columns(keys + d * kKvBlockTokens + slot + first, kKvBlockTokens, rows);
      }
    });
    return;
  }
  for (uint32_t t = 0; t < run.tokens; t++) {
    for (uint32_t d = 0; d < head_dim; d += kLanes) {
      uint16_t halves[kLanes];
      store_halves(halves, halves_of<kFormat>(load(run.key + t * run.stride + d)));
      for (uint32_t i = 0; i < kLanes; i++) keys[(d + i) * kKvBlockTokens + slot + t] = halves[i];
    }
  }
}

// Quantises one head of one token; returns its scale.
inline float quantise_head(const float* x, uint32_t head_dim, int8_t* quants) {
  uint32_t bits = 0;
  for (uint32_t d = 0; d < head_dim; d += kLanes) {
    const Lanes values = load(x + d);
    const uint32_t here = largest_magnitude_bits(values, values);
    bits = here > bits ? here : bits;
  }
  const auto [scale, inverse] = int8_scale(bits);
  if (inverse > 0.0F) {
    for (uint32_t d = 0; d < head_dim; d += kLanes) {
      round_to_int8(multiply(load(x + d), broadcast(inverse)), quants + d);
    }
  } else {
    std::memset(quants, 0, head_dim);
  }
  return scale;
}

inline void store_kv_int8(const KvRun& run, uint32_t head_dim, uint32_t slot, uint16_t* keys,
                          uint16_t* values) {
  int8_t quants[kKvBlockTokens * kHeadDimMost];
  auto* key_quants = reinterpret_cast<int8_t*>(keys);
  auto* value_quants = reinterpret_cast<int8_t*>(values);
  const size_t scales_at = static_cast<size_t>(head_dim) * kKvBlockTokens;
  for (uint32_t t = 0; t < run.tokens; t++) {
    const size_t scale_at = scales_at + (slot + t) * sizeof(float);
    const float key_scale = quantise_head(run.key + t * run.stride, head_dim, quants + t * head_dim);
    std::memcpy(key_quants + scale_at, &key_scale, sizeof(float));
    const float value_scale = quantise_head(run.value + t * run.stride, head_dim,
                                            value_quants + static_cast<size_t>(slot + t) * head_dim);
    std::memcpy(value_quants + scale_at, &value_scale, sizeof(float));
  }
  if (run.tokens >= kColumnRows) {
    each_column_rows(run.tokens, [&](uint32_t first) {
      for (uint32_t d = 0; d < head_dim; d += kLanes) {
        store_int8_columns(key_quants + d * kKvBlockTokens + slot + first, kKvBlockTokens,
                           quants + first * head_dim + d, head_dim);
      }
    });
    return;
  }
  for (uint32_t t = 0; t < run.tokens; t++) {
    for (uint32_t d = 0; d < head_dim; d++)
      key_quants[d * kKvBlockTokens + slot + t] = quants[t * head_dim + d];
  }
}

inline void store_kv(KvFormat format, const KvRun& run, uint32_t head_dim, uint32_t slot, uint16_t* keys,
                     uint16_t* values) {
  switch (format) {
    case KvFormat::kFloat16:
      return store_kv_halves<KvFormat::kFloat16>(run, head_dim, slot, keys, values);
    case KvFormat::kBFloat16:
      return store_kv_halves<KvFormat::kBFloat16>(run, head_dim, slot, keys, values);
    case KvFormat::kInt8:
      return store_kv_int8(run, head_dim, slot, keys, values);
  }
}

}  // namespace
}  // namespace streamserve
