// Matmul of every family: against double precision, against the portable family bit for bit, and against
// itself over every way of cutting the work.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "kernels_data.h"
#include "unit_test.h"

namespace streamserve::test {
namespace {

std::vector<double> reference(Format format, const std::vector<uint8_t>& tensor, uint32_t rows, uint32_t cols,
                              const std::vector<float>& x, uint32_t tokens, bool magnitudes) {
  std::vector<double> out(static_cast<size_t>(tokens) * rows);
  std::vector<float> row(cols);
  const Kernels& kernels = *choose_kernels("portable");
  for (uint32_t r = 0; r < rows; r++) {
    kernels.embed_row(format, tensor.data() + r * format_row_bytes(format, cols), cols, row.data());
    for (uint32_t t = 0; t < tokens; t++) {
      double sum = 0;
      for (uint32_t k = 0; k < cols; k++) {
        const double product = static_cast<double>(row[k]) * x[static_cast<size_t>(t) * cols + k];
        sum += magnitudes ? std::abs(product) : product;
      }
      out[static_cast<size_t>(t) * rows + r] = sum;
    }
  }
  return out;
}

void check_same(const std::vector<float>& a, const std::vector<float>& b, const std::string& what) {
  const ptrdiff_t at = first_difference(a, b);
  if (at >= 0) {
    fail(__FILE__, __LINE__,
         what + ": element " + std::to_string(at) + " is " + std::to_string(a[at]) + " and " +
             std::to_string(b[at]));
  }
}

std::string describe(const Kernels& family, Format format, uint32_t rows, uint32_t cols, uint32_t tokens) {
  return std::string(family.name) + " format " + std::to_string(static_cast<uint32_t>(format)) + " rows " +
         std::to_string(rows) + " cols " + std::to_string(cols) + " tokens " + std::to_string(tokens);
}

}  // namespace

UNIT_TEST(kernels_matmul_is_near_double_precision_in_every_format) {
  constexpr uint32_t rows = 37;
  constexpr uint32_t tokens = 5;
  for (const Format format : kFormats) {
    const uint32_t cols = fitting_cols(format, 160);
    const std::vector<float> x = random_floats(tokens * cols, 1);
    const std::vector<uint8_t> tensor = random_tensor(format, rows, cols, 2);
    const std::vector<double> exact = reference(format, tensor, rows, cols, x, tokens, false);
    const std::vector<double> size = reference(format, tensor, rows, cols, x, tokens, true);
    for (const Packing packing : {natural_packing(format), Packing::kFloat32}) {
      for (const Kernels* family : runnable_families()) {
        const OwnedMatrix w(*family, format, packing, tensor, rows, cols);
        const std::vector<float> out = multiply(*family, w.matrix, x, tokens);
        // int8 rounds activations by up to 1/254 of the largest in their group; f32 by 2^-24 an operation.
        for (size_t i = 0; i < out.size(); i++) {
          const double bound = is_quantised(packing) ? 0.1 * size[i] : 2e-5 * size[i];
          CHECK_NEAR(out[i], exact[i], bound + 1e-6);
        }
        if (!is_quantised(packing)) continue;
        double error = 0;
        double total = 0;
        for (size_t i = 0; i < out.size(); i++) {
          error += (out[i] - exact[i]) * (out[i] - exact[i]);
          total += exact[i] * exact[i];
        }
        CHECK(std::sqrt(error / total) < 0.02);
      }
    }
  }
}

UNIT_TEST(kernels_matmul_of_every_family_equals_the_portable_one) {
  const Kernels& portable = *choose_kernels("portable");
  for (const Format format : kFormats) {
    for (const uint32_t rows : {1U, 15U, 16U, 70U, 129U}) {
      for (const uint32_t cols : {32U, 64U, 96U, 224U, 7U, 50U, 256U, 544U, 768U}) {
        if (format_row_bytes(format, cols) == 0 || (rows > 16 && cols > 256)) continue;
        const std::vector<uint8_t> tensor = random_tensor(format, rows, cols, rows * 1000 + cols);
        for (const Packing packing : {natural_packing(format), Packing::kFloat32}) {
          const OwnedMatrix w(portable, format, packing, tensor, rows, cols);
          for (const uint32_t tokens : {1U, 2U, 3U, 7U, 8U, 13U, 14U, 15U, 17U, 33U}) {
            const std::vector<float> x = random_floats(tokens * cols, tokens);
            const std::vector<float> expected = multiply(portable, w.matrix, x, tokens);
            for (const Kernels* family : runnable_families()) {
              check_same(multiply(*family, OwnedMatrix(*family, format, packing, tensor, rows, cols).matrix,
                                  x, tokens),
                         expected, describe(*family, format, rows, cols, tokens));
            }
          }
        }
      }
    }
  }
}

UNIT_TEST(kernels_matmul_of_a_token_does_not_depend_on_its_company) {
  constexpr uint32_t rows = 83;
  constexpr uint32_t most = 33;
  for (const Format format : kFormats) {
    const uint32_t cols = fitting_cols(format, 608);
    const std::vector<float> x = random_floats(most * cols, 3);
    const std::vector<uint8_t> tensor = random_tensor(format, rows, cols, 4);
    for (const Kernels* family : runnable_families()) {
      const OwnedMatrix w(*family, format, natural_packing(format), tensor, rows, cols);
      const std::vector<float> all = multiply(*family, w.matrix, x, most);
      for (uint32_t tokens = 1; tokens < most; tokens++) {
        const std::vector<float> some = multiply(*family, w.matrix, x, tokens);
        check_same(some, {all.begin(), all.begin() + tokens * rows},
                   describe(*family, format, rows, cols, tokens));
      }
    }
  }
}

UNIT_TEST(kernels_matmul_over_tile_ranges_equals_the_whole_and_accumulates) {
  constexpr uint32_t rows = 147;
  constexpr uint32_t tokens = 6;
  constexpr uint32_t stride = rows + 5;
  const uint32_t tiles = (rows + kTileRows - 1) / kTileRows;
  const std::vector<float> before = random_floats(tokens * stride, 6);
  for (const Format format : kFormats) {
    const uint32_t cols = fitting_cols(format, 96);
    const std::vector<float> x = random_floats(tokens * cols, 5);
    const std::vector<uint8_t> tensor = random_tensor(format, rows, cols, 7);
    for (const Kernels* family : runnable_families()) {
      const OwnedMatrix w(*family, format, natural_packing(format), tensor, rows, cols);
      const std::vector<float> whole = multiply(*family, w.matrix, x, tokens);
      GuardedBytes panel(family->activation_bytes(w.matrix.packing, tokens, cols));
      const Activations a{tokens, cols, w.matrix.packing, panel.data()};
      for (uint32_t token = 0; token < tokens; token++)
        family->pack_activations(&x[token * cols], cols, tokens_of(a, token, token + 1), a);
      for (uint32_t cut = 0; cut <= tiles; cut++) {
        std::vector<float> out = before;
        family->matmul(w.matrix, a, 0, cut, out.data(), stride, true);
        family->matmul(w.matrix, a, cut, tiles, out.data(), stride, true);
        std::vector<float> expected = before;
        for (uint32_t t = 0; t < tokens; t++) {
          for (uint32_t r = 0; r < rows; r++) expected[t * stride + r] += whole[t * rows + r];
        }
        check_same(out, expected,
                   describe(*family, format, rows, cols, tokens) + " cut " + std::to_string(cut));
      }
    }
  }
}

UNIT_TEST(kernels_matmul_of_an_odd_vocabulary_equals_the_portable_one) {
  constexpr uint32_t rows = 49153;
  constexpr uint32_t cols = 256;
  const Kernels& portable = *choose_kernels("portable");
  for (const Format format : kFormats) {
    const Packing packing = natural_packing(format);
    const std::vector<uint8_t> tensor = random_tensor(format, rows, cols, 12);
    const OwnedMatrix w(portable, format, packing, tensor, rows, cols);
    for (const uint32_t tokens : {1U, 3U}) {
      const std::vector<float> x = random_floats(tokens * cols, 13);
      const std::vector<float> expected = multiply(portable, w.matrix, x, tokens);
      for (const Kernels* family : runnable_families()) {
        check_same(multiply(*family, w.matrix, x, tokens), expected,
                   describe(*family, format, rows, cols, tokens));
      }
    }
  }
}

// Sums of expanded tiles wait in memory between pieces of k and between runs of panels.
UNIT_TEST(kernels_matmul_of_many_tokens_and_columns_equals_the_portable_one) {
  constexpr uint32_t rows = 17;
  const Kernels& portable = *choose_kernels("portable");
  for (const Format format : kFormats) {
    for (const auto& [cols, tokens] : {std::pair{1280U, 29U}, {256U, 601U}}) {
      const Packing packing = natural_packing(format);
      const std::vector<uint8_t> tensor = random_tensor(format, rows, cols, 14);
      const OwnedMatrix w(portable, format, packing, tensor, rows, cols);
      const std::vector<float> x = random_floats(tokens * cols, 15);
      const std::vector<float> expected = multiply(portable, w.matrix, x, tokens);
      for (const Kernels* family : runnable_families()) {
        check_same(multiply(*family, w.matrix, x, tokens), expected,
                   describe(*family, format, rows, cols, tokens));
      }
    }
  }
}

UNIT_TEST(kernels_matmul_of_any_size_equals_the_portable_one) {
  std::mt19937 random(16);
  const Kernels& portable = *choose_kernels("portable");
  for (int round = 0; round < 12; round++) {
    for (const Format format : kFormats) {
      const uint32_t rows = 1 + random() % 90;
      const uint32_t cols = fitting_cols(format, 1 + random() % 1100);
      const uint32_t tokens = 1 + random() % 40;
      const Packing packing = natural_packing(format);
      const std::vector<uint8_t> tensor = random_tensor(format, rows, cols, random());
      const OwnedMatrix w(portable, format, packing, tensor, rows, cols);
      const std::vector<float> x = random_floats(tokens * cols, random());
      const std::vector<float> expected = multiply(portable, w.matrix, x, tokens);
      for (const Kernels* family : runnable_families()) {
        check_same(multiply(*family, w.matrix, x, tokens), expected,
                   describe(*family, format, rows, cols, tokens));
      }
    }
  }
}

UNIT_TEST(kernels_matmul_takes_extreme_values) {
  constexpr uint32_t rows = 18;
  constexpr uint32_t tokens = 9;
  const Kernels& portable = *choose_kernels("portable");
  for (const Format format : kFormats) {
    const uint32_t cols = fitting_cols(format, 64);
    for (const Values weights : {Values::kZero, Values::kLargest, Values::kTiny, Values::kOrdinary}) {
      for (const Values inputs : {Values::kZero, Values::kLargest, Values::kTiny, Values::kOrdinary}) {
        const std::vector<uint8_t> tensor = random_tensor(format, rows, cols, 8, weights);
        const std::vector<float> x = random_floats(tokens * cols, 9, inputs);
        const Packing packing = natural_packing(format);
        const OwnedMatrix w(portable, format, packing, tensor, rows, cols);
        const std::vector<float> expected = multiply(portable, w.matrix, x, tokens);
        if (inputs == Values::kZero) {
          for (const float value : expected) CHECK(value == 0.0F);
        }
        for (const Kernels* family : runnable_families()) {
          check_same(multiply(*family, w.matrix, x, tokens), expected,
                     describe(*family, format, rows, cols, tokens));
        }
      }
    }
  }
}

UNIT_TEST(kernels_matmul_shows_activations_that_are_not_finite) {
  for (const float bad : {std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
    for (const Format format : kFormats) {
      const uint32_t cols = fitting_cols(format, 64);
      std::vector<float> x = random_floats(3 * cols, 10);
      x[cols + 40] = bad;
      const std::vector<uint8_t> tensor = random_tensor(format, 16, cols, 11);
      for (const Kernels* family : runnable_families()) {
        const OwnedMatrix w(*family, format, natural_packing(format), tensor, 16, cols);
        const std::vector<float> out = multiply(*family, w.matrix, x, 3);
        for (uint32_t r = 0; r < 16; r++) {
          CHECK(std::isfinite(out[r]) && !std::isfinite(out[16 + r]) && std::isfinite(out[32 + r]));
        }
      }
    }
  }
}

UNIT_TEST(kernels_refuse_what_cannot_be_packed) {
  for (const Kernels* family : runnable_families()) {
    CHECK_EQUAL(family->packed_bytes(Packing::kInt4Affine, 16, 40), size_t{0});
    CHECK_EQUAL(family->packed_bytes(Packing::kInt8Symmetric, 0, 32), size_t{0});
    CHECK_EQUAL(family->packed_bytes(Packing::kFloat32, 1, 0), size_t{0});
    CHECK(family->packed_bytes(Packing::kFloat16, 1, 7) > 0);
    for (const Packing super : {Packing::kInt4Super, Packing::kInt5Super, Packing::kInt6Super}) {
      CHECK_EQUAL(family->packed_bytes(super, 16, 32), size_t{0});
      CHECK_EQUAL(family->packed_bytes(super, 16, 576), size_t{0});
      CHECK(family->packed_bytes(super, 16, 256) > 0);
    }
    CHECK_EQUAL(family->packed_bytes(Packing::kWideAffine, 16, 256), size_t{0});
    CHECK_EQUAL(family->packed_bytes(Packing::kWideHalves, 16, 256), size_t{0});
  }
  CHECK(!can_pack(Format::kQ4_1, Packing::kInt8Symmetric));
  CHECK(can_pack(Format::kQ4_1, Packing::kFloat32));
  CHECK(!can_pack(Format::kQ4_K, Packing::kWideAffine));
  CHECK_EQUAL(format_row_bytes(Format::kQ8_0, 33), size_t{0});
  CHECK_EQUAL(format_row_bytes(Format::kQ6_K, 128), size_t{0});
  CHECK(choose_kernels("no such family") == nullptr);
  CHECK(choose_kernels("") == choose_kernels(nullptr));
}

}  // namespace streamserve::test
