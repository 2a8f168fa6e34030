#include "kernels_data.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <new>

namespace streamserve::test {
namespace {

uint16_t half_bits(std::mt19937& random, Values values) {
  switch (values) {
    case Values::kZero:
      return 0;
    case Values::kLargest:
      return static_cast<uint16_t>(0x7BFFU ^ (random() & 0x8000U));
    case Values::kTiny:
      return static_cast<uint16_t>(random() & 0x83FFU);  // subnormal
    case Values::kOrdinary:
      break;
  }
  // Exponents around 2^-6.
  return static_cast<uint16_t>((random() & 0x83FFU) | ((7U + random() % 4U) << 10));
}

float float_value(std::mt19937& random, Values values) {
  const float unit = std::uniform_real_distribution<float>(-1.0F, 1.0F)(random);
  switch (values) {
    case Values::kZero:
      return 0.0F;
    case Values::kLargest:
      return unit < 0 ? -3.0e38F : 3.0e38F;
    case Values::kTiny:
      return unit * 1e-40F;
    case Values::kOrdinary:
      break;
  }
  // A few large ones among small, as activations have.
  return random() % 50 == 0 ? unit * 40.0F : unit * 2.0F;
}

template <typename Value>
void put(std::vector<uint8_t>& bytes, Value value) {
  uint8_t raw[sizeof(Value)];
  std::memcpy(raw, &value, sizeof(Value));
  bytes.insert(bytes.end(), raw, raw + sizeof(Value));
}

// A block of `halves` f16 scales, and anything in `rest` bytes.
void put_block(std::vector<uint8_t>& bytes, std::mt19937& random, Values values, int halves, int rest) {
  for (int i = 0; i < halves; i++) put(bytes, half_bits(random, values));
  for (int i = 0; i < rest; i++) put(bytes, static_cast<uint8_t>(random()));
}

}  // namespace

GuardedBytes::GuardedBytes(size_t size, size_t alignment) {
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t usable = (size + page - 1) / page * page;
  mapped_ = usable + page;
  void* mapped = ::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  pages_ = static_cast<uint8_t*>(mapped);
  ::mprotect(pages_ + usable, page, PROT_NONE);
  data_ = pages_ + (usable - size) / alignment * alignment;
}

GuardedBytes::~GuardedBytes() { ::munmap(pages_, mapped_); }

uint32_t fitting_cols(Format format, uint32_t cols) {
  while (format_row_bytes(format, cols) == 0) cols++;
  return cols;
}

std::vector<uint8_t> random_tensor(Format format, uint32_t rows, uint32_t cols, uint32_t seed,
                                   Values values) {
  std::mt19937 random(seed);
  const size_t bytes = rows * format_row_bytes(format, cols);
  std::vector<uint8_t> tensor;
  tensor.reserve(bytes);
  while (tensor.size() < bytes) {
    switch (format) {
      case Format::kF32:
        put(tensor, float_value(random, values));
        break;
      case Format::kF16:
        put(tensor, half_bits(random, values));
        break;
      case Format::kBF16:
        put(tensor, static_cast<uint16_t>(std::bit_cast<uint32_t>(float_value(random, values)) >> 16));
        break;
      case Format::kQ4_0:
      case Format::kIQ4_NL:
        put_block(tensor, random, values, 1, 16);
        break;
      case Format::kQ4_1:
        put_block(tensor, random, values, 2, 16);
        break;
      case Format::kQ5_0:
        put_block(tensor, random, values, 1, 20);
        break;
      case Format::kQ5_1:
        put_block(tensor, random, values, 2, 20);
        break;
      case Format::kQ8_0:
        put_block(tensor, random, values, 1, 32);
        break;
      case Format::kQ4_K:
        put_block(tensor, random, values, 2, 140);
        break;
      case Format::kQ5_K:
        put_block(tensor, random, values, 2, 172);
        break;
      case Format::kQ6_K:
        put_block(tensor, random, values, 0, 208);
        put(tensor, half_bits(random, values));
        break;
    }
  }
  return tensor;
}

std::vector<float> random_floats(size_t count, uint32_t seed, Values values) {
  std::mt19937 random(seed);
  std::vector<float> floats(count);
  for (float& value : floats) value = float_value(random, values);
  return floats;
}

std::vector<const Kernels*> runnable_families() {
  std::vector<const Kernels*> families;
  for (const Kernels* family : kernel_families()) {
    if (family->supported()) families.push_back(family);
  }
  return families;
}

OwnedMatrix::OwnedMatrix(const Kernels& kernels, Format format, Packing packing,
                         const std::vector<uint8_t>& tensor, uint32_t rows, uint32_t cols)
    : bytes(kernels.packed_bytes(packing, rows, cols)), matrix{packing, rows, cols, bytes.data()} {
  const uint32_t tiles = (rows + kTileRows - 1) / kTileRows;
  kernels.pack(format, tensor.data(), packing, rows, cols, 0, tiles, bytes.data());
}

std::vector<float> multiply(const Kernels& kernels, const PackedMatrix& matrix, const std::vector<float>& x,
                            uint32_t tokens) {
  GuardedBytes panel(kernels.activation_bytes(matrix.packing, tokens, matrix.cols));
  const Activations activations{tokens, matrix.cols, matrix.packing, panel.data()};
  const size_t inputs = static_cast<size_t>(tokens) * matrix.cols;
  const GuardedBytes input(inputs * sizeof(float), sizeof(float));
  std::copy_n(x.data(), inputs, input.floats());
  kernels.pack_activations(input.floats(), matrix.cols, whole(activations), activations);
  const size_t count = static_cast<size_t>(tokens) * matrix.rows;
  const GuardedBytes out(count * sizeof(float), sizeof(float));
  kernels.matmul(matrix, activations, 0, (matrix.rows + kTileRows - 1) / kTileRows, out.floats(), matrix.rows,
                 false);
  return {out.floats(), out.floats() + count};
}

ptrdiff_t first_difference(const std::vector<float>& a, const std::vector<float>& b) {
  for (size_t i = 0; i < a.size(); i++) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    if (std::bit_cast<uint32_t>(a[i]) != std::bit_cast<uint32_t>(b[i])) return static_cast<ptrdiff_t>(i);
  }
  return -1;
}

}  // namespace streamserve::test
