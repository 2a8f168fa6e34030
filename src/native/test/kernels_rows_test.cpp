// What goes into activation panels, seen through a matmul with the identity: plain, RMSNorm and SiLU rows of
// every family against double precision and each other; embedding rows against the formats' definitions.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "kernels_data.h"
#include "unit_test.h"

namespace streamserve::test {
namespace {

using Fill = std::function<void(const Kernels&, uint32_t begin, uint32_t end, const Activations&)>;

// The rows that `fill` puts into a panel for kFloat32: multiplied by the identity, which is exact.
std::vector<float> rows_of(const Kernels& family, uint32_t tokens, uint32_t cols, const Fill& fill) {
  std::vector<float> identity(static_cast<size_t>(cols) * cols);
  for (uint32_t i = 0; i < cols; i++) identity[i * cols + i] = 1.0F;
  std::vector<uint8_t> tensor(identity.size() * sizeof(float));
  std::memcpy(tensor.data(), identity.data(), tensor.size());
  const OwnedMatrix w(family, Format::kF32, Packing::kFloat32, tensor, cols, cols);
  GuardedBytes panel(family.activation_bytes(Packing::kFloat32, tokens, cols));
  const Activations a{tokens, cols, Packing::kFloat32, panel.data()};
  fill(family, 0, tokens / 2, a);
  fill(family, tokens / 2, tokens, a);
  std::vector<float> out(static_cast<size_t>(tokens) * cols);
  family.matmul(w.matrix, a, 0, (cols + kTileRows - 1) / kTileRows, out.data(), cols, false);
  return out;
}

// Products with a random quantised matrix of what `fill` puts into its panel.
std::vector<float> products_of(const Kernels& family, Format format, uint32_t tokens, uint32_t cols,
                               const Fill& fill) {
  constexpr uint32_t rows = 32;
  const Packing packing = natural_packing(format);
  const OwnedMatrix w(family, format, packing, random_tensor(format, rows, cols, 50), rows, cols);
  GuardedBytes panel(family.activation_bytes(packing, tokens, cols));
  const Activations a{tokens, cols, packing, panel.data()};
  fill(family, 0, tokens, a);
  std::vector<float> out(static_cast<size_t>(tokens) * rows);
  family.matmul(w.matrix, a, 0, rows / kTileRows, out.data(), rows, false);
  return out;
}

void check_families_agree(uint32_t tokens, uint32_t cols, const Fill& fill) {
  const Kernels& portable = *choose_kernels("portable");
  const std::vector<float> expected = rows_of(portable, tokens, cols, fill);
  for (const Kernels* family : runnable_families()) {
    CHECK_EQUAL(first_difference(rows_of(*family, tokens, cols, fill), expected), ptrdiff_t{-1});
    if (cols % kGroup) continue;
    for (const Format format : {Format::kQ4_1, Format::kQ4_0, Format::kQ8_0}) {
      CHECK_EQUAL(first_difference(products_of(*family, format, tokens, cols, fill),
                                   products_of(portable, format, tokens, cols, fill)),
                  ptrdiff_t{-1});
    }
  }
}

// Calls pack(range, where its values begin in rows of `stride`) for two halves of the columns.
template <typename Pack>
void each_half(const Activations& a, size_t stride, uint32_t begin, uint32_t end, Pack pack) {
  const uint32_t cut = a.cols / 2 / kGroup * kGroup;
  for (const auto& [from, to] : {std::pair{cut, a.cols}, std::pair{0U, cut}}) {
    if (from < to) pack(ActivationRange{begin, end, from, to}, begin * stride + from);
  }
}

// Plain rows, read with the stride given.
Fill plain(const std::vector<float>& x, size_t stride) {
  return [&x, stride](const Kernels& family, uint32_t begin, uint32_t end, const Activations& a) {
    each_half(a, stride, begin, end, [&](const ActivationRange& range, size_t at) {
      family.pack_activations(&x[at], stride, range, a);
    });
  };
}

constexpr float kEpsilon = 1e-5F;

}  // namespace

UNIT_TEST(kernels_what_quantisation_takes_from_rows_is_packed_beside_them) {
  constexpr uint32_t tokens = 17;
  constexpr uint32_t cols = 96;
  for (const Values values : {Values::kOrdinary, Values::kZero, Values::kTiny}) {
    const std::vector<float> x = random_floats(tokens * cols, 70, values);
    // int8 of the largest magnitude of each group, as pack_activations() makes them.
    std::vector<float> rest(x.size(), 0.0F);
    for (size_t group = 0; group < x.size(); group += kGroup) {
      float largest = 0;
      for (size_t i = group; i < group + kGroup; i++) largest = std::max(largest, std::abs(x[i]));
      if (largest < 0x1p-110F) continue;
      for (size_t i = group; i < group + kGroup; i++) {
        rest[i] = x[i] - std::nearbyint(x[i] * (127.0F / largest)) * (largest / 127.0F);
      }
    }
    for (const Kernels* family : runnable_families()) {
      for (const Packing packing : {Packing::kInt4Affine, Packing::kInt6Super, Packing::kInt8Symmetric}) {
        const size_t bytes = family->activation_bytes(packing, tokens, cols);
        GuardedBytes panels[4] = {GuardedBytes(bytes), GuardedBytes(bytes), GuardedBytes(bytes),
                                  GuardedBytes(bytes)};
        const auto panel = [&](size_t i) { return Activations{tokens, cols, packing, panels[i].data()}; };
        family->pack_activations(x.data(), cols, whole(panel(0)), panel(0));
        family->pack_activations(rest.data(), cols, whole(panel(1)), panel(1));
        each_half(panel(2), cols, 0, tokens, [&](const ActivationRange& range, size_t at) {
          family->pack_activations_and_rest(&x[at], cols, range, panel(2), panel(3));
        });
        CHECK(std::equal(panels[0].data(), panels[0].data() + bytes, panels[2].data()));
        CHECK(std::equal(panels[1].data(), panels[1].data() + bytes, panels[3].data()));
      }
    }
  }
}

UNIT_TEST(kernels_plain_rows_keep_their_values) {
  constexpr uint32_t tokens = 9;
  for (const uint32_t cols : {1U, 15U, 32U, 50U, 96U}) {
    const size_t stride = cols + 3;
    const std::vector<float> x = random_floats(tokens * stride, cols);
    for (const Kernels* family : runnable_families()) {
      const std::vector<float> rows = rows_of(*family, tokens, cols, plain(x, stride));
      for (uint32_t t = 0; t < tokens; t++) {
        CHECK(std::equal(&x[t * stride], &x[t * stride] + cols, &rows[t * cols]));
      }
    }
    check_families_agree(tokens, cols, plain(x, stride));
  }
}

UNIT_TEST(kernels_norm_rows_are_near_double_precision_and_equal_in_all_families) {
  constexpr uint32_t tokens = 7;
  for (const uint32_t cols : {1U, 17U, 33U, 47U, 64U, 160U}) {
    for (const Values values : {Values::kOrdinary, Values::kZero, Values::kTiny}) {
      const size_t stride = cols + 5;
      const std::vector<float> x = random_floats(tokens * stride, cols + 1, values);
      const std::vector<float> weight = random_floats(cols, cols + 2);
      const Fill norm = [&](const Kernels& family, uint32_t begin, uint32_t end, const Activations& a) {
        family.norm_pack_activations(&x[begin * stride], stride, weight.data(), kEpsilon, begin, end, a);
      };
      const std::vector<float> rows = rows_of(*runnable_families().front(), tokens, cols, norm);
      for (uint32_t t = 0; t < tokens; t++) {
        double squares = 0;
        for (uint32_t k = 0; k < cols; k++)
          squares += static_cast<double>(x[t * stride + k]) * x[t * stride + k];
        const double inverse = 1 / std::sqrt(squares / cols + kEpsilon);
        for (uint32_t k = 0; k < cols; k++) {
          const double exact = x[t * stride + k] * inverse * weight[k];
          CHECK_NEAR(rows[t * cols + k], exact, 1e-6 * std::abs(exact) + 1e-37);
        }
      }
      check_families_agree(tokens, cols, norm);
    }
  }
}

UNIT_TEST(kernels_silu_rows_are_near_double_precision_and_equal_in_all_families) {
  // A sweep of the gate over where exp matters and beyond, both signs.
  constexpr uint32_t tokens = 40;
  constexpr uint32_t cols = 160;
  std::vector<float> gate(tokens * cols);
  for (size_t i = 0; i < gate.size(); i++)
    gate[i] = -110.0F + 220.0F * static_cast<float>(i) / static_cast<float>(gate.size());
  const std::vector<float> up = random_floats(gate.size(), 60);
  const Fill silu = [&](const Kernels& family, uint32_t begin, uint32_t end, const Activations& a) {
    each_half(a, cols, begin, end, [&](const ActivationRange& range, size_t at) {
      family.silu_pack_activations(&gate[at], &up[at], cols, range, a);
    });
  };
  const std::vector<float> rows = rows_of(*runnable_families().front(), tokens, cols, silu);
  for (size_t i = 0; i < rows.size(); i++) {
    const double exact = gate[i] / (1 + std::exp(-static_cast<double>(gate[i]))) * up[i];
    // e^x is clamped at 2^126, where SiLU is below 1e-35.
    CHECK_NEAR(rows[i], exact, 4e-7 * std::abs(exact) + 1e-34);
  }
  check_families_agree(tokens, cols, silu);
  check_families_agree(3, 50, [&](const Kernels& family, uint32_t begin, uint32_t end, const Activations& a) {
    family.silu_pack_activations(&gate[3000 + begin * cols], &up[begin * cols], cols,
                                 tokens_of(a, begin, end), a);
  });
}

UNIT_TEST(kernels_gelu_rows_are_near_double_precision_and_equal_in_all_families) {
  constexpr uint32_t tokens = 40;
  constexpr uint32_t cols = 160;
  std::vector<float> gate(tokens * cols);
  for (size_t i = 0; i < gate.size(); i++)
    gate[i] = -12.0F + 24.0F * static_cast<float>(i) / static_cast<float>(gate.size());
  const std::vector<float> up = random_floats(gate.size(), 61);
  const Fill gelu = [&](const Kernels& family, uint32_t begin, uint32_t end, const Activations& a) {
    each_half(a, cols, begin, end, [&](const ActivationRange& range, size_t at) {
      family.gelu_pack_activations(&gate[at], &up[at], cols, range, a);
    });
  };
  const std::vector<float> rows = rows_of(*runnable_families().front(), tokens, cols, gelu);
  for (size_t i = 0; i < rows.size(); i++) {
    const double g = gate[i];
    const double u = std::sqrt(2 / 3.14159265358979323846) * (g + 0.044715 * g * g * g);
    const double exact = 0.5 * g * (1 + std::tanh(u)) * up[i];
    // Rounding of the exponent, up to 120 here, weighs in where the gate is all but shut.
    CHECK_NEAR(rows[i], exact, 1e-6 * std::abs(exact) + 1e-7);
  }
  check_families_agree(tokens, cols, gelu);
}

UNIT_TEST(kernels_find_the_largest_of_each_block_in_all_families) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const size_t count : {1U, 15U, 63U, 64U, 65U, 127U, 128U, 200U, 1000U}) {
    for (const float odd : {0.0F, -0.0F, 9.0F, kInfinity, -kInfinity, std::nanf("")}) {
      // One odd value, in the first, a middle or the last place; else random ones, or none above minus
      // infinity.
      for (const size_t at : {size_t{0}, count / 2, count - 1}) {
        for (const bool bare : {false, true}) {
          std::vector<float> x = random_floats(count, count);
          if (bare) std::fill(x.begin(), x.end(), -kInfinity);
          x[at] = odd;
          std::vector<float> peaks((count + kLogitBlock - 1) / kLogitBlock);
          for (const Kernels* family : runnable_families()) {
            std::fill(peaks.begin(), peaks.end(), 123.0F);
            family->block_peaks(x.data(), count, peaks.data());
            for (size_t b = 0; b < peaks.size(); ++b) {
              const auto first = x.begin() + static_cast<ptrdiff_t>(b * kLogitBlock);
              const auto last = x.begin() + static_cast<ptrdiff_t>(std::min(count, (b + 1) * kLogitBlock));
              const bool any_nan = std::any_of(first, last, [](float value) { return std::isnan(value); });
              CHECK(any_nan ? std::isnan(peaks[b]) : peaks[b] == *std::max_element(first, last));
            }
          }
        }
      }
    }
  }
}

UNIT_TEST(kernels_sum_exponentials_near_double_precision_and_equally_in_all_families) {
  for (const size_t count : {1U, 15U, 16U, 100U, 1000U, 50000U}) {
    for (const float spread : {0.01F, 1.0F, 5.0F, 40.0F}) {
      for (const float scale : {0.01F, 0.7F, 1.25F, 50.0F}) {
        std::vector<float> x = random_floats(count, count);
        for (float& value : x) value = value * spread + 3;
        x[count / 3] = -std::numeric_limits<float>::infinity();
        const float peak = *std::max_element(x.begin(), x.end());
        if (std::isinf(peak)) continue;
        double exact = 0;
        for (const float value : x) exact += std::exp((static_cast<double>(value) - peak) * scale);
        const double sum = runnable_families().front()->exp_sum(x.data(), count, peak, scale);
        CHECK_NEAR(sum, exact, kExpSumError / 2 * exact);
        for (const Kernels* family : runnable_families()) {
          CHECK_EQUAL(family->exp_sum(x.data(), count, peak, scale), sum);
        }
      }
    }
  }
}

UNIT_TEST(kernels_soft_cap_is_near_double_precision_and_equal_in_all_families) {
  for (const float cap : {1.0F, 30.0F, 50.0F}) {
    for (const size_t count : {size_t{1}, size_t{16}, size_t{1003}}) {
      std::vector<float> x(count);
      for (size_t i = 0; i < count; i++)
        x[i] = cap * (-8.0F + 16.0F * static_cast<float>(i) / static_cast<float>(count));
      std::vector<float> expected;
      for (const Kernels* family : runnable_families()) {
        std::vector<float> capped = x;
        family->soft_cap(capped.data(), count, cap);
        for (size_t i = 0; i < count; i++) {
          CHECK_NEAR(capped[i], cap * std::tanh(static_cast<double>(x[i]) / cap), 3e-7 * cap);
        }
        if (expected.empty()) expected = capped;
        CHECK_EQUAL(first_difference(capped, expected), ptrdiff_t{-1});
      }
    }
  }
}

UNIT_TEST(kernels_quantised_activations_stay_within_half_a_step_of_their_values) {
  // Q8_0 rows of one 1 each (d = 1, q = 1) read single activations back: q * scale.
  constexpr uint32_t cols = 64;
  constexpr uint32_t tokens = 16;
  std::vector<uint8_t> tensor(cols * format_row_bytes(Format::kQ8_0, cols));
  for (uint32_t r = 0; r < cols; r++) {
    uint8_t* row = &tensor[r * format_row_bytes(Format::kQ8_0, cols)];
    for (uint32_t block = 0; block < cols / 32; block++) row[block * 34 + 1] = 0x3C;
    row[r / 32 * 34 + 2 + r % 32] = 1;
  }
  const std::vector<float> x = random_floats(tokens * cols, 70);
  for (const Kernels* family : runnable_families()) {
    const OwnedMatrix w(*family, Format::kQ8_0, Packing::kInt8Symmetric, tensor, cols, cols);
    const std::vector<float> back = multiply(*family, w.matrix, x, tokens);
    for (uint32_t t = 0; t < tokens; t++) {
      for (uint32_t k = 0; k < cols; k++) {
        float largest = 0;
        for (uint32_t i = k / 32 * 32; i < k / 32 * 32 + 32; i++)
          largest = std::max(largest, std::abs(x[t * cols + i]));
        CHECK_NEAR(back[t * cols + k], x[t * cols + k], largest / 254 * 1.0001);
      }
    }
  }
}

UNIT_TEST(kernels_embedding_rows_follow_the_formats_definitions) {
  const Kernels& kernels = *choose_kernels(nullptr);
  float out[32];
  // d = 0.5, m = -1, quants 0..15 low nibbles and 15..0 high nibbles.
  std::vector<uint8_t> q4_1 = {0x00, 0x38, 0x00, 0xBC};
  std::vector<uint8_t> q4_0 = {0x00, 0x38};
  std::vector<uint8_t> q8_0 = {0x00, 0x38};
  for (uint32_t i = 0; i < 16; i++) {
    q4_1.push_back(static_cast<uint8_t>(i | (15 - i) << 4));
    q4_0.push_back(q4_1.back());
  }
  for (int i = 0; i < 32; i++) q8_0.push_back(static_cast<uint8_t>(i - 16));
  kernels.embed_row(Format::kQ4_1, q4_1.data(), 32, out);
  for (int i = 0; i < 32; i++) CHECK_EQUAL(out[i], 0.5F * static_cast<float>(i < 16 ? i : 31 - i) - 1.0F);
  kernels.embed_row(Format::kQ4_0, q4_0.data(), 32, out);
  for (int i = 0; i < 32; i++) CHECK_EQUAL(out[i], 0.5F * static_cast<float>((i < 16 ? i : 31 - i) - 8));
  kernels.embed_row(Format::kQ8_0, q8_0.data(), 32, out);
  for (int i = 0; i < 32; i++) CHECK_EQUAL(out[i], 0.5F * static_cast<float>(i - 16));
  const uint8_t halves[] = {0x00, 0x3C, 0x01, 0x00, 0x00, 0xFC, 0xFF, 0x7B};
  kernels.embed_row(Format::kF16, halves, 4, out);
  CHECK(out[0] == 1.0F && out[1] == 0x1p-24F && out[2] == -HUGE_VALF && out[3] == 65504.0F);
  const uint8_t brains[] = {0x80, 0x3F, 0x00, 0xC0};
  kernels.embed_row(Format::kBF16, brains, 2, out);
  CHECK(out[0] == 1.0F && out[1] == -2.0F);
}

}  // namespace streamserve::test
