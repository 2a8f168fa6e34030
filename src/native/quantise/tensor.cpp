#include "quantise/tensor.h"

#include <atomic>
#include <cmath>

#include "error.h"
#include "model/crew.h"
#include "quantise/blocks.h"

namespace streamserve {
namespace {

// Rows that a thread takes at once.
constexpr uint64_t kRowsAtOnce = 8;
// Largest finite f16, which scales and f16 weights are kept in.
constexpr float kMostHalf = 65504;

void check_values(std::span<const float> row, Format format, const TensorInfo& tensor) {
  const float most = format == Format::kF32 || format == Format::kBF16 ? INFINITY : kMostHalf;
  for (const float value : row) {
    // Also false for what is no number.
    if (std::fabs(value) < INFINITY && std::fabs(value) <= most) continue;
    throw EngineError(ErrorCode::kModelFileInvalid,
                      "The tensor " + tensor.name + " has the weight " + std::to_string(value) + ", which " +
                          format_name(static_cast<uint32_t>(format)) + " cannot hold.");
  }
}

}  // namespace

std::vector<uint8_t> quantise_tensor(const ModelSource& source, const TensorInfo& tensor, Format format,
                                     std::span<const float> importance, uint32_t threads) {
  const Format own = static_cast<Format>(tensor.format);
  const uint32_t cols = static_cast<uint32_t>(tensor.shape[0]);
  const size_t row_bytes = format_row_bytes(format, cols);
  const size_t own_row_bytes = format_row_bytes(own, cols);
  if (!can_quantise(format) || row_bytes == 0 || own_row_bytes == 0 || !tensor.bytes) {
    throw EngineError(ErrorCode::kModelFormatUnsupported,
                      "The tensor " + tensor.name + " (" + format_name(tensor.format) + ", rows of " +
                          std::to_string(tensor.shape[0]) + ") cannot be written as " +
                          format_name(static_cast<uint32_t>(format)) + ".");
  }
  if (!importance.empty() && importance.size() != cols) {
    throw EngineError(ErrorCode::kArgumentInvalid, "importance needs one value a column.");
  }
  std::vector<uint8_t> raw(*tensor.bytes);
  source.read(tensor, raw);
  const uint64_t rows = raw.size() / own_row_bytes;
  std::vector<uint8_t> out(rows * row_bytes);
  // Widening is the same in every kernel family.
  const Kernels& kernels = *kernel_families().back();
  std::atomic<uint64_t> next{0};
  with_crew(threads, [&] {
    std::vector<float> row(cols);
    for (uint64_t begin; (begin = next.fetch_add(kRowsAtOnce)) < rows;) {
      for (uint64_t r = begin; r < std::min(rows, begin + kRowsAtOnce); ++r) {
        kernels.embed_row(own, raw.data() + r * own_row_bytes, cols, row.data());
        check_values(row, format, tensor);
        quantise_row(format, row, importance, out.data() + r * row_bytes);
      }
    }
  });
  return out;
}

}  // namespace streamserve
