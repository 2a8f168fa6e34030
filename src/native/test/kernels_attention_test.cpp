// Attention, RoPE and KV storage of every family: against double precision, the portable family, and any
// grouping.
#include <algorithm>
#include <bit>
#include <cmath>
#include <tuple>

#include "kernels_data.h"
#include "unit_test.h"

namespace streamserve::test {
namespace {

constexpr uint32_t kHeadDims[] = {64, 80, 96, 128, 256};
constexpr KvFormat kKvFormats[] = {KvFormat::kFloat16, KvFormat::kBFloat16, KvFormat::kInt8};

// The KV of one KV head, in blocks that begin with `padding` elements of something else, stored in runs of
// at most `run` tokens.
struct Cache {
  Cache(const Kernels& kernels, const std::vector<float>& keys, const std::vector<float>& values,
        uint32_t tokens, uint32_t head_dim, uint16_t rest, KvFormat format = KvFormat::kFloat16,
        uint32_t run = 1)
      : key_offset(32), value_offset(32 + kv_part_words(format, head_dim, kKvBlockTokens)) {
    const uint32_t count = (tokens + kKvBlockTokens - 1) / kKvBlockTokens;
    for (uint32_t b = 0; b < count; b++) {
      blocks.emplace_back(2 * value_offset - key_offset, rest);
      table.push_back(blocks.back().data());
    }
    for (uint32_t t = 0; t < tokens;) {
      uint16_t* block = blocks[t / kKvBlockTokens].data();
      const uint32_t slot = t % kKvBlockTokens;
      const uint32_t here = std::min({run, tokens - t, kKvBlockTokens - slot});
      kernels.store_kv(format, {&keys[t * head_dim], &values[t * head_dim], head_dim, here}, head_dim, slot,
                       block + key_offset, block + value_offset);
      t += here;
    }
  }
  size_t key_offset;
  size_t value_offset;
  std::vector<std::vector<uint16_t>> blocks;
  std::vector<const uint16_t*> table;
};

struct Case {
  uint32_t head_dim;
  uint32_t heads;
  uint32_t tokens;
  std::vector<float> queries;  // [tokens][heads][head_dim]
  std::vector<float> keys;     // [tokens][head_dim]
  std::vector<float> values;
  uint32_t window = 0;
  float cap = 0;
  KvFormat format = KvFormat::kFloat16;
  float scale() const { return 1.0F / std::sqrt(static_cast<float>(head_dim)); }
  size_t stride() const { return static_cast<size_t>(heads) * head_dim; }
};

Case make_case(uint32_t head_dim, uint32_t heads, uint32_t tokens, uint32_t seed) {
  return {head_dim,
          heads,
          tokens,
          random_floats(static_cast<size_t>(tokens) * heads * head_dim, seed),
          random_floats(static_cast<size_t>(tokens) * head_dim, seed + 1),
          random_floats(static_cast<size_t>(tokens) * head_dim, seed + 2),
          0,
          0,
          KvFormat::kFloat16};
}

// Positions [first, first + count).
AttentionTask task_of(const Case& c, const Cache& cache, uint32_t first, uint32_t count,
                      std::vector<float>& out) {
  return {c.queries.data() + first * c.stride(),
          c.stride(),
          out.data() + first * c.stride(),
          c.stride(),
          count,
          c.heads,
          first + 1,
          cache.table.data(),
          cache.key_offset,
          cache.value_offset,
          c.window,
          c.cap,
          c.format};
}

// Positions [first, first + count) as one task.
void attend(const Kernels& kernels, const Case& c, const Cache& cache, uint32_t first, uint32_t count,
            std::vector<float>& out) {
  GuardedBytes scratch(kernels.attention_scratch_floats(c.head_dim) * sizeof(float));
  kernels.attention(task_of(c, cache, first, count, out), c.head_dim, c.scale(), scratch.floats());
}

// The same with the context in parts of `together` segments, the last part first, and with something to ask
// for ahead.
void attend_in_parts(const Kernels& kernels, const Case& c, const Cache& cache, uint32_t first,
                     uint32_t count, uint32_t together, std::vector<float>& out) {
  GuardedBytes scratch(kernels.attention_scratch_floats(c.head_dim) * sizeof(float));
  AttentionTask task = task_of(c, cache, first, count, out);
  task.next = {cache.table.data(), cache.key_offset, static_cast<uint32_t>(cache.table.size())};
  const uint32_t oldest = c.window > 0 && task.context > c.window ? task.context - c.window : 0;
  const uint32_t begin = oldest / kAttentionSegment;
  const uint32_t segments = attention_segments(first + count) - begin;
  const size_t segment = size_t{count} * c.heads * attention_partial_floats(c.head_dim);
  GuardedBytes partials(segments * segment * sizeof(float));
  for (uint32_t part = (segments + together - 1) / together; part-- > 0;) {
    const uint32_t from = part * together;
    const uint32_t to = std::min(segments, from + together);
    GuardedBytes own((to - from) * segment * sizeof(float));
    kernels.attention_partials(task, c.head_dim, c.scale(), begin + from, begin + to, own.floats(),
                               scratch.floats());
    std::copy_n(own.floats(), (to - from) * segment, partials.floats() + from * segment);
  }
  kernels.attention_join(task, c.head_dim, partials.floats(), segments, scratch.floats());
}

std::vector<double> reference(const Case& c) {
  std::vector<double> out(c.queries.size());
  std::vector<double> weights(c.tokens);
  for (uint32_t t = 0; t < c.tokens; t++) {
    for (uint32_t h = 0; h < c.heads; h++) {
      const float* query = &c.queries[t * c.stride() + static_cast<size_t>(h) * c.head_dim];
      double peak = -HUGE_VAL;
      const uint32_t begin = c.window > 0 && t + 1 > c.window ? t + 1 - c.window : 0;
      for (uint32_t s = begin; s <= t; s++) {
        double dot = 0;
        for (uint32_t d = 0; d < c.head_dim; d++)
          dot += static_cast<double>(query[d]) * c.keys[s * c.head_dim + d];
        weights[s] = dot * c.scale();
        if (c.cap > 0) weights[s] = c.cap * std::tanh(weights[s] / c.cap);
        peak = std::max(peak, weights[s]);
      }
      double total = 0;
      for (uint32_t s = begin; s <= t; s++) total += weights[s] = std::exp(weights[s] - peak);
      for (uint32_t d = 0; d < c.head_dim; d++) {
        double sum = 0;
        for (uint32_t s = begin; s <= t; s++) sum += weights[s] * c.values[s * c.head_dim + d];
        out[t * c.stride() + static_cast<size_t>(h) * c.head_dim + d] = sum / total;
      }
    }
  }
  return out;
}

// To so many significant bits less than f32's 24.
void round_off(std::vector<float>& values, int bits) {
  // Scaling by 2^bits + 1 splits them off (Dekker).
  for (float& value : values) {
    const float split = value * (std::ldexp(1.0F, bits) + 1.0F);
    value = split - (split - value);
  }
}

// Multiples of 2^-5 up to 127 of them, which each head reaches: its scale is 2^-5, and int8 keeps it exactly.
void round_to_int8(std::vector<float>& values, uint32_t head_dim) {
  for (size_t i = 0; i < values.size(); i++) {
    const float steps = std::clamp(std::round(values[i] * 32.0F), -127.0F, 127.0F);
    values[i] = (i % head_dim == 0 ? 127.0F : steps) / 32.0F;
  }
}

// Changes keys and values to what the case's format keeps exactly.
void round_to_format(Case& c) {
  for (std::vector<float>* values : {&c.keys, &c.values}) {
    if (c.format == KvFormat::kFloat16) {
      round_off(*values, 13);
    } else if (c.format == KvFormat::kBFloat16) {
      round_off(*values, 16);
    } else {
      round_to_int8(*values, c.head_dim);
    }
  }
}

}  // namespace

UNIT_TEST(kernels_attention_is_near_double_precision) {
  for (const uint32_t head_dim : kHeadDims) {
    for (const auto& [heads, format] : {std::pair{1U, KvFormat::kFloat16},
                                        {3U, KvFormat::kFloat16},
                                        {8U, KvFormat::kFloat16},
                                        {3U, KvFormat::kBFloat16},
                                        {3U, KvFormat::kInt8}}) {
      Case c = make_case(head_dim, heads, 71, head_dim + heads);
      c.format = format;
      round_to_format(c);
      const std::vector<double> exact = reference(c);
      for (const Kernels* family : runnable_families()) {
        const Cache cache(*family, c.keys, c.values, c.tokens, head_dim, 0, format);
        std::vector<float> out(c.queries.size());
        attend(*family, c, cache, 0, c.tokens, out);
        for (size_t i = 0; i < out.size(); i++) CHECK_NEAR(out[i], exact[i], 1e-3);
      }
    }
  }
}

UNIT_TEST(kernels_attention_keeps_to_its_window_and_cap) {
  for (const uint32_t window : {1U, 7U, 16U, 31U, 32U, 33U, 64U, 90U, 1000U}) {
    for (const float cap : {0.0F, 1.5F, 50.0F}) {
      Case c = make_case(80, 3, 133, window);
      c.window = window;
      c.cap = cap;
      c.format = kKvFormats[window % 3];
      round_to_format(c);
      const std::vector<double> exact = reference(c);
      for (const Kernels* family : runnable_families()) {
        const Cache cache(*family, c.keys, c.values, c.tokens, c.head_dim, 0, c.format);
        std::vector<float> out(c.queries.size());
        attend(*family, c, cache, 0, c.tokens, out);
        for (size_t i = 0; i < out.size(); i++) CHECK_NEAR(out[i], exact[i], 1e-3);
      }
    }
  }
}

UNIT_TEST(kernels_attention_never_reads_blocks_outside_the_window) {
  Case c = make_case(64, 2, 100, 77);
  c.window = 20;
  for (const Kernels* family : runnable_families()) {
    Cache cache(*family, c.keys, c.values, c.tokens, c.head_dim, 0);
    std::vector<float> out(c.queries.size());
    attend(*family, c, cache, 84, 16, out);
    // Positions 84 to 99 see tokens from 65 on.
    cache.table[0] = nullptr;
    cache.table[1] = nullptr;
    std::vector<float> again(c.queries.size());
    attend(*family, c, cache, 84, 16, again);
    CHECK_EQUAL(first_difference(again, out), ptrdiff_t{-1});
  }
}

UNIT_TEST(kernels_attention_of_a_position_does_not_depend_on_its_company) {
  constexpr auto kInt8 = KvFormat::kInt8;
  constexpr auto kFloat16 = KvFormat::kFloat16;
  for (const auto& [head_dim, window, cap, format] : {std::tuple{64U, 0U, 0.0F, kFloat16},
                                                      {80U, 0U, 0.0F, kFloat16},
                                                      {80U, 5U, 0.0F, kFloat16},
                                                      {96U, 33U, 2.0F, kFloat16},
                                                      {128U, 40U, 0.0F, kFloat16},
                                                      {96U, 0U, 0.0F, KvFormat::kBFloat16},
                                                      {64U, 0U, 0.0F, kInt8},
                                                      {80U, 33U, 2.0F, kInt8}}) {
    for (const uint32_t heads : {1U, 3U, 5U}) {
      Case c = make_case(head_dim, heads, 100, 20 + heads);
      c.window = window;
      c.cap = cap;
      c.format = format;
      const Kernels& portable = *choose_kernels("portable");
      std::vector<float> expected(c.queries.size());
      {
        // Slots beyond the context hold NaN, as f16 and as scales, which must not matter.
        const Cache cache(portable, c.keys, c.values, c.tokens, head_dim, 0x7FFF, format);
        attend(portable, c, cache, 0, c.tokens, expected);
      }
      for (const Kernels* family : runnable_families()) {
        const Cache cache(*family, c.keys, c.values, c.tokens, head_dim, 0x7FFF, format);
        for (const uint32_t together : {1U, 2U, 3U, 4U, 7U, 13U, 32U, 100U}) {
          std::vector<float> out(c.queries.size());
          for (uint32_t first = 0; first < c.tokens; first += together) {
            attend(*family, c, cache, first, std::min(together, c.tokens - first), out);
          }
          CHECK_EQUAL(first_difference(out, expected), ptrdiff_t{-1});
        }
      }
    }
  }
}

UNIT_TEST(kernels_attention_over_many_segments_is_near_double_precision) {
  for (const auto& [window, cap, format] : {std::tuple{0U, 0.0F, KvFormat::kFloat16},
                                            {300U, 2.0F, KvFormat::kFloat16},
                                            {300U, 0.0F, KvFormat::kBFloat16},
                                            {256U, 0.0F, KvFormat::kInt8}}) {
    Case c = make_case(64, 2, 3 * kAttentionSegment + 5, 50 + window);
    c.window = window;
    c.cap = cap;
    c.format = format;
    round_to_format(c);
    const std::vector<double> exact = reference(c);
    for (const Kernels* family : runnable_families()) {
      const Cache cache(*family, c.keys, c.values, c.tokens, c.head_dim, 0, format);
      std::vector<float> out(c.queries.size());
      attend(*family, c, cache, 0, c.tokens, out);
      for (size_t i = 0; i < out.size(); i++) CHECK_NEAR(out[i], exact[i], 1e-3);
    }
  }
}

UNIT_TEST(kernels_attention_of_a_shared_context_equals_that_of_a_whole_one) {
  constexpr uint32_t tokens = 4 * kAttentionSegment + 40;
  for (const auto& [head_dim, heads, window, format] : {std::tuple{64U, 3U, 0U, KvFormat::kFloat16},
                                                        {64U, 3U, 300U, KvFormat::kFloat16},
                                                        {80U, 1U, 0U, KvFormat::kFloat16},
                                                        {96U, 3U, 0U, KvFormat::kBFloat16},
                                                        {128U, 7U, 0U, KvFormat::kInt8},
                                                        {256U, 2U, 700U, KvFormat::kInt8}}) {
    Case c = make_case(head_dim, heads, tokens, 60 + window);
    c.window = window;
    c.format = format;
    const Kernels& portable = *choose_kernels("portable");
    // A position alone, positions on both sides of a segment's border, and more rows than are kept at a time.
    for (const auto& [first, count] :
         {std::pair{tokens - 1, 1U}, {4 * kAttentionSegment - 4, 9U}, {tokens - 40, 40U}, {200U, 1U}}) {
      std::vector<float> expected(c.queries.size());
      const Cache plain(portable, c.keys, c.values, tokens, head_dim, 0x7FFF, format);
      for (uint32_t p = first; p < first + count; p++) attend(portable, c, plain, p, 1, expected);
      for (const Kernels* family : runnable_families()) {
        const Cache cache(*family, c.keys, c.values, tokens, head_dim, 0x7FFF, format);
        std::vector<float> out(c.queries.size());
        attend(*family, c, cache, first, count, out);
        CHECK_EQUAL(first_difference(out, expected), ptrdiff_t{-1});
        for (const uint32_t together : {1U, 2U, 5U}) {
          std::vector<float> joined(c.queries.size());
          attend_in_parts(*family, c, cache, first, count, together, joined);
          CHECK_EQUAL(first_difference(joined, expected), ptrdiff_t{-1});
        }
      }
    }
  }
}

UNIT_TEST(kernels_attention_takes_extreme_scores) {
  for (const float size : {0.0F, 1e-30F, 300.0F}) {
    Case c = make_case(64, 3, 40, 30);
    for (float& q : c.queries) q *= size;
    std::vector<float> expected;
    for (const Kernels* family : runnable_families()) {
      const Cache cache(*family, c.keys, c.values, c.tokens, c.head_dim, 0);
      std::vector<float> out(c.queries.size());
      attend(*family, c, cache, 0, c.tokens, out);
      for (const float value : out) CHECK(std::isfinite(value) && std::abs(value) <= 41.0F);
      if (expected.empty()) expected = out;
      CHECK_EQUAL(first_difference(out, expected), ptrdiff_t{-1});
    }
  }
}

UNIT_TEST(kernels_store_kv_rounds_to_nearest_even_like_the_portable_family) {
  const Kernels& portable = *choose_kernels("portable");
  constexpr uint32_t head_dim = 64;
  std::vector<float> values = random_floats(head_dim, 40);
  const float special[] = {0.0F,    -0.0F,   65504.0F,    65519.9F,   65520.0F,       -70000.0F,
                           6.0e-8F, 2.9e-8F, 2.98023e-8F, 6.1035e-5F, 1.00048828125F, 1.00146484375F,
                           1e-45F,  2049.0F, 2051.0F,     HUGE_VALF};
  std::copy(std::begin(special), std::end(special), values.begin());
  const Cache expected(portable, values, values, 1, head_dim, 0);
  CHECK_EQUAL(expected.blocks[0][expected.value_offset + 13], uint16_t{0x6800});  // 2049 is halfway: 2048
  CHECK_EQUAL(expected.blocks[0][expected.value_offset + 14], uint16_t{0x6802});  // 2051 is halfway: 2052
  CHECK_EQUAL(expected.blocks[0][expected.value_offset + 4], uint16_t{0x7C00});  // 65520 is halfway: infinity
  for (const Kernels* family : runnable_families()) {
    const Cache cache(*family, values, values, 1, head_dim, 0);
    CHECK(cache.blocks == expected.blocks);
  }
}

UNIT_TEST(kernels_store_kv_as_bf16_rounds_to_nearest_even_and_keeps_what_f16_has_no_room_for) {
  const Kernels& portable = *choose_kernels("portable");
  constexpr uint32_t head_dim = 64;
  std::vector<float> values = random_floats(head_dim, 40);
  const float special[] = {0.0F,   -0.0F,  70000.0F,  3.38e38F,   3.4e38F, 1e-40F,      257.0F,
                           259.0F, 257.5F, HUGE_VALF, -HUGE_VALF, 1e-45F,  1.00390625F, -259.0F};
  std::copy(std::begin(special), std::end(special), values.begin());
  // Of a number whose upper bits alone would be an infinity's.
  values[20] = std::bit_cast<float>(0x7F800001U);
  const Cache expected(portable, values, values, 1, head_dim, 0, KvFormat::kBFloat16);
  const uint16_t* stored = expected.blocks[0].data() + expected.value_offset;
  CHECK_EQUAL(stored[2], uint16_t{0x4789});
  CHECK_EQUAL(stored[4], uint16_t{0x7F80});  // beyond the largest: infinity
  CHECK_EQUAL(stored[6], uint16_t{0x4380});  // 257 is halfway: 256
  CHECK_EQUAL(stored[7], uint16_t{0x4382});  // 259 is halfway: 260
  CHECK_EQUAL(stored[8], uint16_t{0x4381});
  CHECK_EQUAL(stored[20], uint16_t{0x7FC0});
  for (const Kernels* family : runnable_families()) {
    const Cache cache(*family, values, values, 1, head_dim, 0, KvFormat::kBFloat16);
    CHECK(cache.blocks == expected.blocks);
  }
}

UNIT_TEST(kernels_store_kv_as_int8_stays_within_half_a_step_and_shows_what_is_not_finite) {
  const Kernels& portable = *choose_kernels("portable");
  for (const uint32_t head_dim : kHeadDims) {
    std::vector<float> keys = random_floats(3 * head_dim, 41);
    std::vector<float> values = random_floats(3 * head_dim, 42);
    std::fill_n(keys.begin() + head_dim, head_dim, 0.0F);
    values[2 * head_dim + 5] = std::nanf("");
    const Cache expected(portable, keys, values, 3, head_dim, 0, KvFormat::kInt8);
    const auto* stored = reinterpret_cast<const int8_t*>(expected.blocks[0].data() + expected.key_offset);
    const auto* scales = reinterpret_cast<const float*>(stored + size_t{head_dim} * kKvBlockTokens);
    for (uint32_t t = 0; t < 2; t++) {
      float largest = 0;
      for (uint32_t d = 0; d < head_dim; d++) largest = std::max(largest, std::abs(keys[t * head_dim + d]));
      for (uint32_t d = 0; d < head_dim; d++) {
        CHECK_NEAR(static_cast<float>(stored[d * kKvBlockTokens + t]) * scales[t], keys[t * head_dim + d],
                   largest / 254 * 1.0001);
      }
    }
    const auto* stored_values =
        reinterpret_cast<const int8_t*>(expected.blocks[0].data() + expected.value_offset);
    const auto* value_scales =
        reinterpret_cast<const float*>(stored_values + size_t{head_dim} * kKvBlockTokens);
    CHECK(std::isfinite(value_scales[1]) && std::isnan(value_scales[2]));
    for (const Kernels* family : runnable_families()) {
      const Cache cache(*family, keys, values, 3, head_dim, 0, KvFormat::kInt8);
      CHECK(cache.blocks == expected.blocks);
    }
  }
}

UNIT_TEST(kernels_store_kv_stores_a_run_as_it_stores_its_tokens_one_by_one) {
  const Kernels& portable = *choose_kernels("portable");
  constexpr uint32_t tokens = 2 * kKvBlockTokens + 3;
  for (const uint32_t head_dim : kHeadDims) {
    std::vector<float> keys = random_floats(tokens * head_dim, 43);
    std::vector<float> values = random_floats(tokens * head_dim, 44);
    std::fill_n(keys.begin() + 9 * head_dim, head_dim, 0.0F);
    keys[10 * head_dim + 1] = HUGE_VALF;
    values[11 * head_dim + 2] = std::nanf("");
    for (const KvFormat format : kKvFormats) {
      const Cache expected(portable, keys, values, tokens, head_dim, 0x1234, format);
      for (const Kernels* family : runnable_families()) {
        for (const uint32_t run : {1U, 5U, 7U, 8U, 9U, 14U, 16U, 31U, 32U}) {
          const Cache cache(*family, keys, values, tokens, head_dim, 0x1234, format, run);
          CHECK(cache.blocks == expected.blocks);
        }
      }
    }
  }
}

UNIT_TEST(kernels_rope_rotates_pairs_in_both_styles) {
  for (const uint32_t head_dim : kHeadDims) {
    constexpr uint32_t heads = 3;
    // Phi-4-mini rotates three quarters of its heads of 128.
    const uint32_t rotated = head_dim == 128 ? 96 : head_dim;
    const uint32_t half = rotated / 2;
    const std::vector<float> x = random_floats(heads * head_dim, head_dim);
    std::vector<float> cosines(half);
    std::vector<float> sines(half);
    for (uint32_t i = 0; i < half; i++) {
      cosines[i] = std::cos(0.37F * static_cast<float>(i));
      sines[i] = std::sin(0.37F * static_cast<float>(i));
    }
    for (const RopeStyle style : {RopeStyle::kInterleaved, RopeStyle::kHalves}) {
      std::vector<float> first;
      for (const Kernels* family : runnable_families()) {
        std::vector<float> out = x;
        family->rope(out.data(), heads, head_dim, rotated, cosines.data(), sines.data(), style);
        for (uint32_t head = 0; head < heads; head++) {
          for (uint32_t i = 0; i < half; i++) {
            const uint32_t a = head * head_dim + (style == RopeStyle::kInterleaved ? 2 * i : i);
            const uint32_t b = style == RopeStyle::kInterleaved ? a + 1 : a + half;
            CHECK_NEAR(out[a], x[a] * cosines[i] - x[b] * sines[i], 1e-5);
            CHECK_NEAR(out[b], x[b] * cosines[i] + x[a] * sines[i], 1e-5);
          }
          for (uint32_t d = head * head_dim + rotated; d < (head + 1) * head_dim; d++)
            CHECK_EQUAL(out[d], x[d]);
        }
        if (first.empty()) first = out;
        CHECK_EQUAL(first_difference(out, first), ptrdiff_t{-1});
      }
    }
  }
}

}  // namespace streamserve::test
