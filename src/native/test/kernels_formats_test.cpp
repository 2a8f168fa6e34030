// Every quantised format, widened, against a decoder of single weights written from the format's definition.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels_data.h"
#include "unit_test.h"

namespace streamserve::test {
namespace {

double half_at(const uint8_t* at) {
  const int bits = at[0] | at[1] << 8;
  const int exponent = bits >> 10 & 31;
  const double fraction = (bits & 1023) / 1024.0;
  const double size = exponent == 0 ? std::ldexp(fraction, -14) : std::ldexp(1.0 + fraction, exponent - 15);
  return bits & 0x8000 ? -size : size;
}

// Nibble i of 16 bytes, the low nibbles first.
int nibble_at(const uint8_t* bytes, int i) { return i < 16 ? bytes[i] & 15 : bytes[i - 16] >> 4; }

int bit_at(const uint8_t* bytes, int i) { return bytes[i / 8] >> i % 8 & 1; }

// 6-bit number j of the 12 bytes of scales of a K block: scales are 0 to 7, minima 8 to 15.
int k_scale_at(const uint8_t* bytes, int j) {
  const bool minimum = j >= 8;
  const int i = j % 8;
  if (i < 4) return bytes[i + (minimum ? 4 : 0)] & 63;
  const int low = minimum ? bytes[4 + i] >> 4 : bytes[4 + i] & 15;
  return low | bytes[i - (minimum ? 0 : 4)] >> 6 << 4;
}

double k_weight(const uint8_t* block, int i, bool five) {
  const int group = i / 32;
  const uint8_t* nibbles = block + (five ? 48 : 16) + i / 64 * 32;
  int quant = group % 2 ? nibbles[i % 32] >> 4 : nibbles[i % 32] & 15;
  if (five && block[16 + i % 32] >> group & 1) quant += 16;
  return half_at(block) * k_scale_at(block + 4, group) * quant -
         half_at(block + 2) * k_scale_at(block + 4, 8 + group);
}

double q6_k_weight(const uint8_t* block, int i) {
  const int half = i / 128;
  const int part = i % 128 / 32;  // of the half: 0 and 1 in low nibbles, 2 and 3 in high ones
  const int k = i % 32;
  const int byte = block[half * 64 + (part % 2) * 32 + k];
  const int low = part < 2 ? byte & 15 : byte >> 4;
  const int high = block[128 + half * 32 + k] >> (2 * part) & 3;
  const int scale = static_cast<int8_t>(block[192 + i / 16]);
  return half_at(block + 208) * scale * (low + 16 * high - 32);
}

double weight_at(Format format, const uint8_t* row, uint32_t k) {
  constexpr int codebook[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  const int i = static_cast<int>(k % 32);
  const int j = static_cast<int>(k % 256);
  const auto block = [&](uint32_t elements, uint32_t bytes) { return row + k / elements * size_t{bytes}; };
  switch (format) {
    case Format::kQ4_0:
      return half_at(block(32, 18)) * (nibble_at(block(32, 18) + 2, i) - 8);
    case Format::kQ4_1:
      return half_at(block(32, 20)) * nibble_at(block(32, 20) + 4, i) + half_at(block(32, 20) + 2);
    case Format::kQ5_0:
      return half_at(block(32, 22)) *
             (nibble_at(block(32, 22) + 6, i) + 16 * bit_at(block(32, 22) + 2, i) - 16);
    case Format::kQ5_1:
      return half_at(block(32, 24)) * (nibble_at(block(32, 24) + 8, i) + 16 * bit_at(block(32, 24) + 4, i)) +
             half_at(block(32, 24) + 2);
    case Format::kQ8_0:
      return half_at(block(32, 34)) * static_cast<int8_t>(block(32, 34)[2 + i]);
    case Format::kIQ4_NL:
      return half_at(block(32, 18)) * codebook[nibble_at(block(32, 18) + 2, i)];
    case Format::kQ4_K:
      return k_weight(block(256, 144), j, false);
    case Format::kQ5_K:
      return k_weight(block(256, 176), j, true);
    case Format::kQ6_K:
      return q6_k_weight(block(256, 210), j);
    default:
      return 0;
  }
}

constexpr Format kQuantised[] = {Format::kQ4_0, Format::kQ4_1, Format::kQ5_0, Format::kQ5_1,  Format::kQ8_0,
                                 Format::kQ4_K, Format::kQ5_K, Format::kQ6_K, Format::kIQ4_NL};

}  // namespace

UNIT_TEST(kernels_widen_every_format_as_it_is_defined) {
  constexpr uint32_t rows = 5;
  constexpr uint32_t cols = 1024;
  std::vector<float> row(cols);
  for (const Format format : kQuantised) {
    for (const Values values : {Values::kOrdinary, Values::kTiny, Values::kZero, Values::kLargest}) {
      const std::vector<uint8_t> tensor = random_tensor(format, rows, cols, 21, values);
      const size_t stride = format_row_bytes(format, cols);
      for (uint32_t r = 0; r < rows; r++) {
        const uint8_t* at = tensor.data() + r * stride;
        for (const Kernels* family : runnable_families()) {
          family->embed_row(format, at, cols, row.data());
          for (uint32_t k = 0; k < cols; k++) {
            CHECK(row[k] == static_cast<float>(weight_at(format, at, k)));
          }
        }
      }
    }
  }
}

// A token that is 127 at one k quantises exactly, and picks a single weight: so packing, expanding and the
// scales of every k are seen one by one.
UNIT_TEST(kernels_multiply_each_weight_at_its_place) {
  constexpr uint32_t rows = 19;
  constexpr uint32_t cols = 512;
  std::vector<float> x(size_t{cols} * cols);
  for (uint32_t k = 0; k < cols; k++) x[k * cols + k] = 127.0F;
  for (const Format format : kQuantised) {
    const std::vector<uint8_t> tensor = random_tensor(format, rows, cols, 22);
    const size_t stride = format_row_bytes(format, cols);
    for (const Kernels* family : runnable_families()) {
      const OwnedMatrix w(*family, format, natural_packing(format), tensor, rows, cols);
      const std::vector<float> out = multiply(*family, w.matrix, x, cols);
      for (uint32_t k = 0; k < cols; k++) {
        for (uint32_t r = 0; r < rows; r++) {
          const double expected = 127 * weight_at(format, tensor.data() + r * stride, k);
          CHECK_NEAR(out[k * rows + r], expected, 1e-5 * std::abs(expected) + 1e-3);
        }
      }
    }
  }
}

}  // namespace streamserve::test
