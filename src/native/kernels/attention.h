// Attention over paged KV. Include after a lanes_*.h.
//
// The context is cut into segments of kAttentionSegment tokens, by position. A segment by itself gives each
// row a partial: its largest score, the sum of p = 2^(score - largest), and the outputs p V. Partials are
// joined in order of position (attention_join.h), by whoever has them all, so a context may be shared out
// over threads and its result stays the same. Online softmax: Milakov and Gimelshein, arXiv 1805.02867;
// tiling as in FlashAttention, arXiv 2205.14135, and sharing out a context as in Flash-Decoding (Dao et al.,
// 2023).
//
// Rows are (position, head) pairs; up to kRowsMost of them go over a segment together, so that each load and
// widening of K and V serves many. For each row: s = q.K, each a chain over d; the largest; p, its sums in 32
// lanes, block after block; outputs, each a chain over tokens. The scales of int8 KV are the tokens': a key's
// goes to its scores, a value's to its p. A row computes nothing beyond its own context and window, so
// grouping changes no bit.
#pragma once

#include "attention_join.h"
#include "exponential.h"
#include "kernels.h"

namespace streamserve {
namespace {

// log2(e): scores in powers of two need no conversion for exp2.
inline constexpr float kLog2E = 1.44269502F;
// Rows whose queries and partials are kept at a time: they read a segment once from memory, and then from the
// caches. Sixteen positions of three heads.
inline constexpr uint32_t kRowsTogether = 48;
// Floats from a row's query to the next one's: a constant is part of an address, and this one spreads rows
// over the sets of a first-level cache.
inline constexpr uint32_t kQueryStride = kHeadDimMost + kLanes;

// Sixteen keys or values of a head from the `index`-th on.
template <KvFormat kFormat>
inline Lanes load_kv(const uint16_t* part, size_t index) {
  if constexpr (kFormat == KvFormat::kFloat16) {
    return load_f16(part + index);
  } else if constexpr (kFormat == KvFormat::kBFloat16) {
    return load_bf16(part + index);
  } else {
    return load_int8(reinterpret_cast<const int8_t*>(part) + index);
  }
}

// x times the scales of the tokens from `token` on, a token a lane.
template <KvFormat kFormat>
inline Lanes scaled(const Lanes& x, const uint16_t* part, uint32_t head_dim, uint32_t token) {
  if constexpr (kFormat != KvFormat::kInt8) {
    return x;
  } else {
    const auto* scales =
        reinterpret_cast<const float*>(part + static_cast<size_t>(head_dim) * kKvBlockTokens / 2);
    return multiply(x, load(scales + token));
  }
}

// sums[r][v] += factors[r * kStride] * vector(v), for all r and v, vector after vector where there are few
// registers: then no more than one vector and one factor is held beside the sums.
template <size_t kStride, uint32_t kRows, uint32_t kSpan, typename Vector>
inline __attribute__((always_inline)) void multiply_add(Lanes (&sums)[kRows][kSpan], const float* factors,
                                                        Vector vector) {
  if constexpr (kFewRegisters) {
#pragma GCC unroll 16
    for (uint32_t v = 0; v < kSpan; v++) {
      // Else compilers keep all factors in registers, and sums in memory.
      asm("" : "+r"(factors));
      const Lanes x = vector(v);
#pragma GCC unroll 16
      for (uint32_t r = 0; r < kRows; r++) sums[r][v] = fused(broadcast(factors[r * kStride]), x, sums[r][v]);
    }
  } else {
    Lanes x[kSpan];
#pragma GCC unroll 16
    for (uint32_t v = 0; v < kSpan; v++) x[v] = vector(v);
#pragma GCC unroll 16
    for (uint32_t r = 0; r < kRows; r++) {
      const Lanes factor = broadcast(factors[r * kStride]);
#pragma GCC unroll 16
      for (uint32_t v = 0; v < kSpan; v++) sums[r][v] = fused(factor, x[v], sums[r][v]);
    }
  }
}

// Some rows of a task over one segment.
template <uint32_t kRows, KvFormat kFormat, uint32_t kRegisters>
class SegmentPass {
 public:
  // queries: [kRows][kQueryStride], scaled. probabilities: scratch, [kRows][kAttentionSegment].
  // next: what is read after the segment.
  SegmentPass(const AttentionTask& task, uint32_t head_dim, uint32_t first_row, uint32_t segment,
              const KeysOfBlocks& next, const float* queries, float* probabilities)
      : task_(task),
        next_(next),
        cap_(task.soft_cap * kLog2E),
        head_dim_(head_dim),
        first_block_(segment * kSegmentBlocks),
        queries_(queries),
        probabilities_(probabilities) {
    const uint32_t first_token = segment * kAttentionSegment;
    for (uint32_t r = 0; r < kRows; r++) {
      const uint32_t context = task.context + (first_row + r) / task.heads;
      const uint32_t start = task.window > 0 && context > task.window ? context - task.window : 0;
      from_[r] = within_segment(start, first_token);
      valid_[r] = within_segment(context, first_token);
    }
  }

  // The partials of the rows, side by side.
  void run(float* partials) {
    // Rows are in order of position: the first looks back furthest, the last has the longest context.
    begin_ = from_[0] / kKvBlockTokens;
    end_ = (valid_[kRows - 1] + kKvBlockTokens - 1) / kKvBlockTokens;
    score_blocks();
    const size_t stride = attention_partial_floats(head_dim_);
    for (uint32_t r = 0; r < kRows; r++) soften(r, partials + r * stride);
    // Tokens [from, valid) are seen by a row, [shared_from, shared) by all.
    const uint32_t shared_from = from_[kRows - 1];
    const uint32_t shared = valid_[0];
    if (shared_from >= shared) {
      for (uint32_t r = 0; r < kRows; r++) accumulate_all<1, true>(partials, r, from_[r], valid_[r]);
      return;
    }
    for (uint32_t r = 0; r < kRows; r++) {
      if (from_[r] < shared_from) accumulate_all<1, true>(partials, r, from_[r], shared_from);
    }
    if (from_[0] < shared_from) {
      for (uint32_t r = 0; r < kRows; r++) {
        if (from_[r] == shared_from) accumulate_all<1, true>(partials, r, shared_from, shared_from);
      }
      accumulate_all<kRows, false>(partials, 0, shared_from, shared);
    } else {
      accumulate_all<kRows, true>(partials, 0, shared_from, shared);
    }
    for (uint32_t r = 0; r < kRows; r++) {
      if (valid_[r] > shared) accumulate_all<1, false>(partials, r, shared, valid_[r]);
    }
  }

 private:
  static constexpr uint32_t kSegmentBlocks = kAttentionSegment / kKvBlockTokens;
  static constexpr uint32_t kElement = kFormat == KvFormat::kInt8 ? 1 : 2;  // bytes
  static constexpr uint32_t kLine = 64;

  // Vectors that `rows` rows may span in registers.
  static constexpr uint32_t span_of(uint32_t rows, uint32_t most) {
    uint32_t span = 1;
    while (2 * span <= most && 2 * span * rows <= kRegisters) span *= 2;
    return span;
  }

  // How many tokens of the segment that begins at `first_token` lie before position `end`.
  static uint32_t within_segment(uint32_t end, uint32_t first_token) {
    const uint32_t left = end > first_token ? end - first_token : 0;
    return left < kAttentionSegment ? left : kAttentionSegment;
  }

  const uint16_t* keys(uint32_t block) const { return task_.blocks[first_block_ + block] + task_.key_offset; }
  const uint16_t* values(uint32_t block) const {
    return task_.blocks[first_block_ + block] + task_.value_offset;
  }

  // What is asked for while the values of a block are worked on. Too little fits the processor's own
  // look-ahead, and the next block would be too near where a context has few: keys ask for the values of
  // their block, and values for keys of what comes next. A segment of these is larger than a first-level
  // cache.
  const uint16_t* ahead_of_values(uint32_t block) const {
    const uint32_t at = block - begin_;
    return at < next_.count ? next_.blocks[at] + next_.offset : values(block);
  }
  // Into the second-level cache.
  static void ask_ahead(const char* at) { __builtin_prefetch(at, 0, 2); }

  void score_blocks() {
    constexpr uint32_t kWide = span_of(kRows, kKvBlockTokens / kLanes);
    for (uint32_t b = begin_; b < end_; b++) {
      for (uint32_t v = 0; v < kKvBlockTokens / kLanes; v += kWide) score<kWide>(b, v);
    }
  }

  // Scores of all rows against kWide vectors of a block's tokens.
  template <uint32_t kWide>
  void score(uint32_t block, uint32_t vector) {
    const uint16_t* const part = keys(block);
    const char* const ahead = reinterpret_cast<const char*>(values(block));
    Lanes s[kRows][kWide];
#pragma GCC unroll 16
    for (uint32_t r = 0; r < kRows; r++) {
#pragma GCC unroll 16
      for (uint32_t v = 0; v < kWide; v++) s[r][v] = zero();
    }
    for (uint32_t d = 0; d < head_dim_; d++) {
      if (vector == 0) ask_ahead(ahead + size_t{d} * kKvBlockTokens * kElement);
      multiply_add<kQueryStride>(s, queries_ + d, [&](uint32_t v) {
        return load_kv<kFormat>(part, d * kKvBlockTokens + (vector + v) * kLanes);
      });
    }
#pragma GCC unroll 16
    for (uint32_t r = 0; r < kRows; r++) {
#pragma GCC unroll 16
      for (uint32_t v = 0; v < kWide; v++) {
        const uint32_t token = (vector + v) * kLanes;
        store(probabilities_ + r * kAttentionSegment + block * kKvBlockTokens + token,
              scaled<kFormat>(s[r][v], part, head_dim_, token));
      }
    }
  }

  // `outside` in the lanes before token `from` of a block and after token `valid`.
  static void mask(Lanes& low, Lanes& high, uint32_t from, uint32_t valid, const Lanes& outside) {
    if (valid < kKvBlockTokens) {
      const uint32_t low_valid = valid < kLanes ? valid : kLanes;
      low = keep_first(low, low_valid, outside);
      high = keep_first(high, valid - low_valid, outside);
    }
    if (from == 0) return;
    const uint32_t low_from = from < kLanes ? from : kLanes;
    low = keep_first(outside, low_from, low);
    high = keep_first(outside, from - low_from, high);
  }

  // Turns a row's scores into probabilities, with their values' scales; notes the largest score and the sum.
  void soften(uint32_t r, float* partial) {
    float* const row = probabilities_ + r * kAttentionSegment;
    const uint32_t from = from_[r];
    const uint32_t valid = valid_[r];
    const float infinity = __builtin_huge_valf();
    if (from >= valid) {
      note_partial(partial, head_dim_, -infinity, 0.0F);
      return;
    }
    const uint32_t begin = from / kKvBlockTokens;
    const uint32_t end = (valid + kKvBlockTokens - 1) / kKvBlockTokens;
    const auto each_block = [&](auto body) {
      for (uint32_t b = begin; b < end; b++) {
        const uint32_t first = b * kKvBlockTokens;
        const uint32_t here_from = from > first ? from - first : 0;
        const uint32_t here_valid = valid - first < kKvBlockTokens ? valid - first : kKvBlockTokens;
        body(b, row + first, here_from, here_valid);
      }
    };
    Lanes low_peak = broadcast(-infinity);
    Lanes high_peak = low_peak;
    each_block([&](uint32_t, float* scores, uint32_t here_from, uint32_t here_valid) {
      Lanes low = load(scores);
      Lanes high = load(scores + kLanes);
      if (cap_ > 0.0F) {
        low = soft_cap_lanes(low, cap_);
        high = soft_cap_lanes(high, cap_);
        store(scores, low);
        store(scores + kLanes, high);
      }
      mask(low, high, here_from, here_valid, broadcast(-infinity));
      low_peak = maximum(low, low_peak);
      high_peak = maximum(high, high_peak);
    });
    const float peak = largest(maximum(low_peak, high_peak));
    const Lanes shift = broadcast(peak);
    Lanes low_sum = zero();
    Lanes high_sum = zero();
    // exp2 clamps at 2^-126, so tokens outside [from, valid) are cleared.
    each_block([&](uint32_t b, float* scores, uint32_t here_from, uint32_t here_valid) {
      Lanes low = exp2_lanes(subtract(load(scores), shift));
      Lanes high = exp2_lanes(subtract(load(scores + kLanes), shift));
      mask(low, high, here_from, here_valid, zero());
      store(scores, scaled<kFormat>(low, values(b), head_dim_, 0));
      store(scores + kLanes, scaled<kFormat>(high, values(b), head_dim_, kLanes));
      low_sum = add(low_sum, low);
      high_sum = add(high_sum, high);
    });
    note_partial(partial, head_dim_, peak, sum(add(low_sum, high_sum)));
  }

  // outputs of kCount rows from `row` on (+)= probabilities times values of tokens [begin, end), for kSpan
  // vectors from d on; kFresh: they begin at zero.
  template <uint32_t kCount, uint32_t kSpan, bool kFresh>
  void accumulate(float* partials, uint32_t row, uint32_t begin, uint32_t end, uint32_t d) {
    const size_t stride = attention_partial_floats(head_dim_);
    float* const out = partials + row * stride + d;
    Lanes o[kCount][kSpan];
#pragma GCC unroll 16
    for (uint32_t r = 0; r < kCount; r++) {
#pragma GCC unroll 16
      for (uint32_t v = 0; v < kSpan; v++) o[r][v] = kFresh ? zero() : load(out + r * stride + v * kLanes);
    }
    for (uint32_t token = begin; token < end;) {
      const uint32_t block = token / kKvBlockTokens;
      const uint32_t block_end = (block + 1) * kKvBlockTokens;
      const uint32_t stop = end < block_end ? end : block_end;
      const uint16_t* const part = values(block);
      const float* const p = probabilities_ + row * kAttentionSegment;
      const char* const ahead = reinterpret_cast<const char*>(ahead_of_values(block)) + size_t{d} * kElement;
      for (; token < stop; token++) {
        const size_t at = size_t{token % kKvBlockTokens} * head_dim_ * kElement;
#pragma GCC unroll 16
        for (uint32_t v = 0; v < kSpan * kLanes * kElement; v += kLine) ask_ahead(ahead + at + v);
        multiply_add<kAttentionSegment>(o, p + token, [&](uint32_t v) {
          return load_kv<kFormat>(part, (token % kKvBlockTokens) * head_dim_ + d + v * kLanes);
        });
      }
    }
#pragma GCC unroll 16
    for (uint32_t r = 0; r < kCount; r++) {
#pragma GCC unroll 16
      for (uint32_t v = 0; v < kSpan; v++) store(out + r * stride + v * kLanes, o[r][v]);
    }
  }

  template <uint32_t kCount, bool kFresh>
  void accumulate_all(float* partials, uint32_t row, uint32_t begin, uint32_t end) {
    constexpr uint32_t kSpan = span_of(kCount, 4);
    uint32_t d = 0;
    for (; d + kSpan * kLanes <= head_dim_; d += kSpan * kLanes) {
      accumulate<kCount, kSpan, kFresh>(partials, row, begin, end, d);
    }
    for (; d < head_dim_; d += kLanes) accumulate<kCount, 1, kFresh>(partials, row, begin, end, d);
  }

  const AttentionTask& task_;
  const KeysOfBlocks& next_;
  const float cap_;  // of the scores, which are in powers of two
  const uint32_t head_dim_;
  const uint32_t first_block_;
  const float* const queries_;
  float* const probabilities_;
  // Tokens of the segment that each row sees, and blocks that any does.
  uint32_t from_[kRows];
  uint32_t valid_[kRows];
  uint32_t begin_ = 0;
  uint32_t end_ = 0;
};

// kRowsMost: rows in a pass. kWide: vectors of 16 lanes that a register tile of kRowsMost rows spans.
template <uint32_t kRowsMost, uint32_t kWide>
struct AttentionKernel {
  static_assert(kAttentionSegment % kKvBlockTokens == 0 && kKvBlockTokens == 2 * kLanes);
  static_assert(kRowsMost <= kRowsTogether);

  // Scratch: probabilities of a pass; queries, partials and joined partials of kRowsTogether rows.
  static size_t scratch_floats(uint32_t head_dim) {
    return size_t{kRowsMost} * kAttentionSegment +
           kRowsTogether * (kQueryStride + 2 * attention_partial_floats(head_dim));
  }

  // Rows of a task that are computed side by side, in passes of nearly equal length.
  struct Rows {
    uint32_t first;
    uint32_t count;
    uint32_t passes() const { return (count + kRowsMost - 1) / kRowsMost; }
    uint32_t pass_begin(uint32_t pass) const {
      const uint32_t longer = count % passes();
      return count / passes() * pass + (pass < longer ? pass : longer);
    }
  };

  struct Segments {
    uint32_t begin;
    uint32_t end;
  };

  static Segments segments_of(const AttentionTask& task) {
    const uint32_t oldest = task.window > 0 && task.context > task.window ? task.context - task.window : 0;
    return {oldest / kAttentionSegment, attention_segments(task.context + task.positions - 1)};
  }

  static Rows rows_from(const AttentionTask& task, uint32_t first) {
    const uint32_t left = task.positions * task.heads - first;
    return {first, left < kRowsTogether ? left : kRowsTogether};
  }

  // Queries of the rows, [rows][kQueryStride], times `scale`.
  static void lay_out_queries(const AttentionTask& task, const Rows& rows, uint32_t head_dim, float scale,
                              float* queries) {
    const Lanes scales = broadcast(scale);
    for (uint32_t r = 0; r < rows.count; r++) {
      const uint32_t row = rows.first + r;
      const float* const query = task.queries + row / task.heads * task.query_stride +
                                 static_cast<size_t>(row % task.heads) * head_dim;
      float* const out = queries + static_cast<size_t>(r) * kQueryStride;
      for (uint32_t d = 0; d < head_dim; d += kLanes) store(out + d, multiply(load(query + d), scales));
    }
  }

  template <uint32_t kRows, KvFormat kFormat>
  static void run_pass(uint32_t count, const AttentionTask& task, uint32_t head_dim, uint32_t first_row,
                       uint32_t segment, const KeysOfBlocks& next, const float* queries, float* probabilities,
                       float* partials) {
    if constexpr (kRows > 0) {
      if (count == kRows) {
        SegmentPass<kRows, kFormat, kRowsMost * kWide>(task, head_dim, first_row, segment, next, queries,
                                                       probabilities)
            .run(partials);
        return;
      }
      run_pass<kRows - 1, kFormat>(count, task, head_dim, first_row, segment, next, queries, probabilities,
                                   partials);
    }
  }

  static auto* pass_for(KvFormat format) {
    switch (format) {
      case KvFormat::kFloat16:
        return run_pass<kRowsMost, KvFormat::kFloat16>;
      case KvFormat::kBFloat16:
        return run_pass<kRowsMost, KvFormat::kBFloat16>;
      case KvFormat::kInt8:
        break;
    }
    return run_pass<kRowsMost, KvFormat::kInt8>;
  }

  // The keys that are read after a segment by whoever computes those before `end`.
  static KeysOfBlocks keys_after(const AttentionTask& task, uint32_t segment, uint32_t end) {
    if (segment + 1 == end) return task.next;
    constexpr uint32_t kBlocks = kAttentionSegment / kKvBlockTokens;
    const uint32_t first = (segment + 1) * kBlocks;
    const uint32_t blocks = (task.context + task.positions - 2) / kKvBlockTokens + 1;
    return {task.blocks + first, task.key_offset, blocks - first < kBlocks ? blocks - first : kBlocks};
  }

  // Partials of the rows over a segment before `end`, side by side.
  static void run_segment(const AttentionTask& task, const Rows& rows, uint32_t head_dim, uint32_t segment,
                          uint32_t end, const float* queries, float* probabilities, float* partials) {
    auto* const pass_of = pass_for(task.format);
    const KeysOfBlocks next = keys_after(task, segment, end);
    for (uint32_t pass = 0; pass < rows.passes(); pass++) {
      const uint32_t begin = rows.pass_begin(pass);
      pass_of(rows.pass_begin(pass + 1) - begin, task, head_dim, rows.first + begin, segment, next,
              queries + static_cast<size_t>(begin) * kQueryStride, probabilities,
              partials + begin * attention_partial_floats(head_dim));
    }
  }

  static void run(const AttentionTask& task, uint32_t head_dim, float scale, float* scratch) {
    const size_t partial = attention_partial_floats(head_dim);
    float* const queries = scratch + size_t{kRowsMost} * kAttentionSegment;
    float* const partials = queries + size_t{kRowsTogether} * kQueryStride;
    float* const joined = partials + kRowsTogether * partial;
    const Segments segments = segments_of(task);
    for (uint32_t first = 0; first < task.positions * task.heads; first += kRowsTogether) {
      const Rows rows = rows_from(task, first);
      // Scores are kept in powers of two.
      lay_out_queries(task, rows, head_dim, scale * kLog2E, queries);
      for (uint32_t r = 0; r < rows.count; r++) begin_joining(joined + r * partial, head_dim);
      for (uint32_t segment = segments.begin; segment < segments.end; segment++) {
        run_segment(task, rows, head_dim, segment, segments.end, queries, scratch, partials);
        for (uint32_t r = 0; r < rows.count; r++) {
          join_partial(joined + r * partial, partials + r * partial, head_dim);
        }
      }
      for (uint32_t r = 0; r < rows.count; r++) {
        const uint32_t row = first + r;
        end_joining(
            joined + r * partial, head_dim,
            task.out + row / task.heads * task.out_stride + static_cast<size_t>(row % task.heads) * head_dim);
      }
    }
  }

  static void run_segments(const AttentionTask& task, uint32_t head_dim, float scale, uint32_t begin,
                           uint32_t end, float* partials, float* scratch) {
    const size_t partial = attention_partial_floats(head_dim);
    const uint32_t all = task.positions * task.heads;
    float* const queries = scratch + size_t{kRowsMost} * kAttentionSegment;
    for (uint32_t first = 0; first < all; first += kRowsTogether) {
      const Rows rows = rows_from(task, first);
      lay_out_queries(task, rows, head_dim, scale * kLog2E, queries);
      for (uint32_t segment = begin; segment < end; segment++) {
        run_segment(task, rows, head_dim, segment, end, queries, scratch,
                    partials + (static_cast<size_t>(segment - begin) * all + first) * partial);
      }
    }
  }

  static void join(const AttentionTask& task, uint32_t head_dim, const float* partials, uint32_t segments,
                   float* scratch) {
    const size_t partial = attention_partial_floats(head_dim);
    const uint32_t all = task.positions * task.heads;
    for (uint32_t row = 0; row < all; row++) {
      begin_joining(scratch, head_dim);
      for (uint32_t s = 0; s < segments; s++) {
        join_partial(scratch, partials + (static_cast<size_t>(s) * all + row) * partial, head_dim);
      }
      end_joining(
          scratch, head_dim,
          task.out + row / task.heads * task.out_stride + static_cast<size_t>(row % task.heads) * head_dim);
    }
  }
};

}  // namespace
}  // namespace streamserve
