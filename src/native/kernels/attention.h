// Attention over paged KV. Include after a lanes_*.h.
//
// Rows are (position, head) pairs; up to kRowsMost of them go over the KV together, so that each load and
// widening of K and V serves many. For each row and block: s = q.K (32 tokens, each a chain over d), the
// running maximum, p = 2^(s - max), running sums in 32 lanes, o = o * correction + p V (each element a chain
// over tokens). The scales of int8 KV are the tokens': a key's goes to its scores, a value's to its p. Blocks
// are taken in order of position and a row computes nothing beyond its own context and
// window, so grouping changes no bit. Online softmax: Milakov and Gimelshein, arXiv 1805.02867; tiling as in
// FlashAttention, arXiv 2205.14135.
#pragma once

#include "exponential.h"
#include "kernels.h"

namespace streamserve {
namespace {

// log2(e): scores in powers of two need no conversion for exp2.
inline constexpr float kLog2E = 1.44269502F;
// Widest head dimension, which bounds the scratch.
inline constexpr uint32_t kHeadDimMost = 256;

// Sixteen keys or values of a head from the `index`-th on.
template <KvFormat kFormat>
inline Lanes load_kv(const uint16_t* part, size_t index) {
  if constexpr (kFormat == KvFormat::kFloat16) {
    return load_f16(part + index);
  } else {
    return load_int8(reinterpret_cast<const int8_t*>(part) + index);
  }
}

// x times the scales of the tokens from `token` on, a token a lane.
template <KvFormat kFormat>
inline Lanes scaled(const Lanes& x, const uint16_t* part, uint32_t head_dim, uint32_t token) {
  if constexpr (kFormat == KvFormat::kFloat16) {
    return x;
  } else {
    const auto* scales =
        reinterpret_cast<const float*>(part + static_cast<size_t>(head_dim) * kKvBlockTokens / 2);
    return multiply(x, load(scales + token));
  }
}

// kRowsMost: rows in a pass. kWide: vectors of 16 lanes that a register tile of kRowsMost rows spans.
template <uint32_t kRowsMost, uint32_t kWide>
struct AttentionKernel {
  static_assert(kKvBlockTokens == 2 * kLanes && (kWide == 1 || kWide == 2) && kRowsMost <= kLanes);

  // Floats of scratch: queries [head_dim][rows], probabilities [rows][32], sums [rows][32], outputs
  // [rows][head_dim].
  static size_t scratch_floats(uint32_t head_dim) {
    return kRowsMost * (2 * static_cast<size_t>(head_dim) + 2 * kKvBlockTokens);
  }

  template <uint32_t kRows, KvFormat kFormat>
  struct Pass {
    const AttentionTask& task;
    float cap;  // of the scores, which are in powers of two
    uint32_t head_dim;
    uint32_t first_row;
    float* queries;
    float* probabilities;
    float* sums;
    float* outputs;
    float peaks[kLanes];  // of each row, in lanes
    uint32_t contexts[kRows];
    uint32_t starts[kRows];  // of each row's window

    void begin(float scale) {
      for (uint32_t r = 0; r < kRows; r++) {
        const uint32_t position = (first_row + r) / task.heads;
        const uint32_t head = (first_row + r) % task.heads;
        const float* query =
            task.queries + position * task.query_stride + static_cast<size_t>(head) * head_dim;
        for (uint32_t d = 0; d < head_dim; d++) queries[d * kRows + r] = query[d] * scale;
        contexts[r] = task.context + position;
        starts[r] = task.window > 0 && contexts[r] > task.window ? contexts[r] - task.window : 0;
        peaks[r] = -__builtin_huge_valf();
        store(sums + r * kKvBlockTokens, zero());
        store(sums + r * kKvBlockTokens + kLanes, zero());
        for (uint32_t d = 0; d < head_dim; d += kLanes) store(outputs + r * head_dim + d, zero());
      }
    }

    // Scores of all rows against kWide vectors of tokens, into `probabilities`.
    void score(const uint16_t* keys, uint32_t vector) {
      Lanes s[kRows][kWide];
#pragma GCC unroll 16
      for (uint32_t r = 0; r < kRows; r++) {
#pragma GCC unroll 16
        for (uint32_t v = 0; v < kWide; v++) s[r][v] = zero();
      }
      for (uint32_t d = 0; d < head_dim; d++) {
        Lanes k[kWide];
#pragma GCC unroll 16
        for (uint32_t v = 0; v < kWide; v++)
          k[v] = load_kv<kFormat>(keys, d * kKvBlockTokens + (vector + v) * kLanes);
#pragma GCC unroll 16
        for (uint32_t r = 0; r < kRows; r++) {
          const Lanes q = broadcast(queries[d * kRows + r]);
#pragma GCC unroll 16
          for (uint32_t v = 0; v < kWide; v++) s[r][v] = fused(q, k[v], s[r][v]);
        }
      }
#pragma GCC unroll 16
      for (uint32_t r = 0; r < kRows; r++) {
#pragma GCC unroll 16
        for (uint32_t v = 0; v < kWide; v++) {
          const uint32_t token = (vector + v) * kLanes;
          store(probabilities + r * kKvBlockTokens + token, scaled<kFormat>(s[r][v], keys, head_dim, token));
        }
      }
    }

    // `outside` in the lanes before token `from` of the block and after token `valid`.
    static void mask(Lanes& low, Lanes& high, uint32_t from, uint32_t valid, const Lanes& outside) {
      const uint32_t low_valid = valid < kLanes ? valid : kLanes;
      low = keep_first(low, low_valid, outside);
      high = keep_first(high, valid - low_valid, outside);
      if (from == 0) return;
      const uint32_t low_from = from < kLanes ? from : kLanes;
      low = keep_first(outside, low_from, low);
      high = keep_first(outside, from - low_from, high);
    }

    // The largest score that row r sees among tokens [from, valid) of the block, at least one. Scores outside
    // become -infinity.
    float mask_and_peak(uint32_t r, uint32_t from, uint32_t valid) {
      float* row = probabilities + r * kKvBlockTokens;
      Lanes low = load(row);
      Lanes high = load(row + kLanes);
      if (cap > 0.0F) {
        low = soft_cap_lanes(low, cap);
        high = soft_cap_lanes(high, cap);
      }
      mask(low, high, from, valid, broadcast(-__builtin_huge_valf()));
      store(row, low);
      store(row + kLanes, high);
      return largest(maximum(low, high));
    }

    // Turns a row's scores into probabilities, adds them to its sums, and gives them their values' scales.
    // exp2 clamps at 2^-126, so tokens outside [from, valid) are cleared.
    void soften(const uint16_t* values, uint32_t r, uint32_t from, uint32_t valid, float peak,
                float correction) {
      float* row = probabilities + r * kKvBlockTokens;
      const Lanes shift = broadcast(peak);
      Lanes low = exp2_lanes(subtract(load(row), shift));
      Lanes high = exp2_lanes(subtract(load(row + kLanes), shift));
      mask(low, high, from, valid, zero());
      store(row, scaled<kFormat>(low, values, head_dim, 0));
      store(row + kLanes, scaled<kFormat>(high, values, head_dim, kLanes));
      float* total = sums + r * kKvBlockTokens;
      store(total, fused(load(total), broadcast(correction), low));
      store(total + kLanes, fused(load(total + kLanes), broadcast(correction), high));
      if (correction == 1.0F) return;
      float* out = outputs + r * head_dim;
      for (uint32_t d = 0; d < head_dim; d += kLanes) {
        store(out + d, multiply(load(out + d), broadcast(correction)));
      }
    }

    // outputs of rows [row, row + kCount) += probabilities times values of tokens [begin, end), for kSpan
    // vectors from d on.
    template <uint32_t kCount, uint32_t kSpan>
    void accumulate(const uint16_t* values, uint32_t row, uint32_t begin, uint32_t end, uint32_t d) {
      Lanes o[kCount][kSpan];
#pragma GCC unroll 16
      for (uint32_t r = 0; r < kCount; r++) {
#pragma GCC unroll 16
        for (uint32_t v = 0; v < kSpan; v++) o[r][v] = load(outputs + (row + r) * head_dim + d + v * kLanes);
      }
      for (uint32_t t = begin; t < end; t++) {
        Lanes value[kSpan];
#pragma GCC unroll 16
        for (uint32_t v = 0; v < kSpan; v++)
          value[v] = load_kv<kFormat>(values, t * head_dim + d + v * kLanes);
#pragma GCC unroll 16
        for (uint32_t r = 0; r < kCount; r++) {
          const Lanes p = broadcast(probabilities[(row + r) * kKvBlockTokens + t]);
#pragma GCC unroll 16
          for (uint32_t v = 0; v < kSpan; v++) o[r][v] = fused(p, value[v], o[r][v]);
        }
      }
#pragma GCC unroll 16
      for (uint32_t r = 0; r < kCount; r++) {
#pragma GCC unroll 16
        for (uint32_t v = 0; v < kSpan; v++) store(outputs + (row + r) * head_dim + d + v * kLanes, o[r][v]);
      }
    }

    template <uint32_t kCount>
    void accumulate_all(const uint16_t* values, uint32_t row, uint32_t begin, uint32_t end) {
      uint32_t d = 0;
      for (; d + kWide * kLanes <= head_dim; d += kWide * kLanes) {
        accumulate<kCount, kWide>(values, row, begin, end, d);
      }
      if (d < head_dim) accumulate<kCount, 1>(values, row, begin, end, d);
    }

    void block(const uint16_t* keys, const uint16_t* values, uint32_t first_token) {
      for (uint32_t v = 0; v < kKvBlockTokens / kLanes; v += kWide) score(keys, v);
      // Tokens [from, valid) of the block are seen by a row, [shared_from, shared) by all.
      uint32_t shared_from = 0;
      uint32_t shared = kKvBlockTokens;
      uint32_t from[kRows];
      uint32_t valid[kRows];
      alignas(64) float next[kLanes] = {};
      for (uint32_t r = 0; r < kRows; r++) {
        from[r] = within_block(starts[r], first_token);
        valid[r] = within_block(contexts[r], first_token);
        shared_from = from[r] > shared_from ? from[r] : shared_from;
        shared = valid[r] < shared ? valid[r] : shared;
        const float peak = from[r] < valid[r] ? mask_and_peak(r, from[r], valid[r]) : peaks[r];
        next[r] = peaks[r] > peak ? peaks[r] : peak;
      }
      // The corrections of all rows at once: a row a lane. In a row's first block 2^-126 stands for
      // 2^-infinity and meets sums that are zero.
      alignas(64) float corrections[kLanes];
      store(corrections, exp2_lanes(subtract(load(peaks), load(next))));
      store(peaks, load(next));
      for (uint32_t r = 0; r < kRows; r++) {
        if (from[r] < valid[r]) soften(values, r, from[r], valid[r], next[r], corrections[r]);
      }
      if (shared_from >= shared) {
        for (uint32_t r = 0; r < kRows; r++) {
          if (from[r] < valid[r]) accumulate_all<1>(values, r, from[r], valid[r]);
        }
        return;
      }
      for (uint32_t r = 0; r < kRows; r++) {
        if (from[r] < shared_from) accumulate_all<1>(values, r, from[r], shared_from);
      }
      accumulate_all<kRows>(values, 0, shared_from, shared);
      for (uint32_t r = 0; r < kRows; r++) {
        if (valid[r] > shared) accumulate_all<1>(values, r, shared, valid[r]);
      }
    }

    // How many tokens of the block that begins at `first_token` lie before position `end`.
    static uint32_t within_block(uint32_t end, uint32_t first_token) {
      const uint32_t left = end > first_token ? end - first_token : 0;
      return left < kKvBlockTokens ? left : kKvBlockTokens;
    }

    void end() {
      for (uint32_t r = 0; r < kRows; r++) {
        const uint32_t position = (first_row + r) / task.heads;
        const uint32_t head = (first_row + r) % task.heads;
        const float* total = sums + r * kKvBlockTokens;
        const Lanes inverse = broadcast(1.0F / sum(add(load(total), load(total + kLanes))));
        float* out = task.out + position * task.out_stride + static_cast<size_t>(head) * head_dim;
        for (uint32_t d = 0; d < head_dim; d += kLanes)
          store(out + d, multiply(load(outputs + r * head_dim + d), inverse));
      }
    }
  };

  template <uint32_t kRows, KvFormat kFormat>
  static void run_pass(const AttentionTask& task, uint32_t head_dim, float scale, float* scratch,
                       uint32_t first_row) {
    float* probabilities = scratch;
    float* sums = probabilities + kRowsMost * kKvBlockTokens;
    float* outputs = sums + kRowsMost * kKvBlockTokens;
    float* queries = outputs + kRowsMost * head_dim;
    Pass<kRows, kFormat> pass{
        task, task.soft_cap * kLog2E, head_dim, first_row, queries, probabilities, sums, outputs, {}, {}, {}};
    pass.begin(scale);
    // Rows are in order of position: the first looks back furthest, the last has the longest context.
    const uint32_t longest = pass.contexts[kRows - 1];
    const uint32_t begin = pass.starts[0] / kKvBlockTokens * kKvBlockTokens;
    for (uint32_t first_token = begin; first_token < longest; first_token += kKvBlockTokens) {
      const uint16_t* block = task.blocks[first_token / kKvBlockTokens];
      pass.block(block + task.key_offset, block + task.value_offset, first_token);
    }
    pass.end();
  }

  template <uint32_t kRows, KvFormat kFormat>
  static void dispatch(uint32_t rows, const AttentionTask& task, uint32_t head_dim, float scale,
                       float* scratch, uint32_t first_row) {
    if constexpr (kRows > 0) {
      if (rows == kRows) return run_pass<kRows, kFormat>(task, head_dim, scale, scratch, first_row);
      dispatch<kRows - 1, kFormat>(rows, task, head_dim, scale, scratch, first_row);
    }
  }

  static void run(const AttentionTask& task, uint32_t head_dim, float scale, float* scratch) {
    const uint32_t rows = task.positions * task.heads;
    const uint32_t passes = (rows + kRowsMost - 1) / kRowsMost;
    // Scores are kept in powers of two.
    const float scale2 = scale * kLog2E;
    for (uint32_t pass = 0, first = 0; pass < passes; pass++) {
      const uint32_t count = rows / passes + (pass < rows % passes ? 1 : 0);
      if (task.format == KvFormat::kFloat16) {
        dispatch<kRowsMost, KvFormat::kFloat16>(count, task, head_dim, scale2, scratch, first);
      } else {
        dispatch<kRowsMost, KvFormat::kInt8>(count, task, head_dim, scale2, scratch, first);
      }
      first += count;
    }
  }
};

}  // namespace
}  // namespace streamserve
