// Random tensors, activations and matrices for the kernel tests.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "kernels/kernels.h"

namespace streamserve::test {

// Bytes that end at a page that may not be touched (but for what alignment of their start leaves), so that a
// kernel that reads or writes beyond them crashes, with sanitizers or without.
class GuardedBytes {
 public:
  explicit GuardedBytes(size_t size, size_t alignment = 64);
  ~GuardedBytes();
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes& operator=(const GuardedBytes&) = delete;
  uint8_t* data() const { return data_; }
  float* floats() const { return reinterpret_cast<float*>(data_); }

 private:
  size_t mapped_;
  uint8_t* pages_;
  uint8_t* data_;
};

inline constexpr Format kFormats[] = {Format::kF32,  Format::kF16,  Format::kBF16, Format::kQ4_0,
                                      Format::kQ4_1, Format::kQ5_0, Format::kQ5_1, Format::kQ8_0,
                                      Format::kQ4_K, Format::kQ5_K, Format::kQ6_K, Format::kIQ4_NL};

// Columns that a format takes, near `cols`: rounded up to whole blocks.
uint32_t fitting_cols(Format format, uint32_t cols);

// What the values of a tensor look like.
enum class Values { kOrdinary, kZero, kLargest, kTiny };

// A row-major GGUF tensor with random contents.
std::vector<uint8_t> random_tensor(Format format, uint32_t rows, uint32_t cols, uint32_t seed,
                                   Values values = Values::kOrdinary);
std::vector<float> random_floats(size_t count, uint32_t seed, Values values = Values::kOrdinary);

// Every family that this processor runs, best first.
std::vector<const Kernels*> runnable_families();

// A packed matrix that owns its bytes.
struct OwnedMatrix {
  OwnedMatrix(const Kernels& kernels, Format format, Packing packing, const std::vector<uint8_t>& tensor,
              uint32_t rows, uint32_t cols);
  GuardedBytes bytes;
  PackedMatrix matrix;
};

// tokens x rows results of one matmul over plain activations.
std::vector<float> multiply(const Kernels& kernels, const PackedMatrix& matrix, const std::vector<float>& x,
                            uint32_t tokens);

// Index of the first float whose bits differ, or -1. NaNs equal each other.
ptrdiff_t first_difference(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace streamserve::test
