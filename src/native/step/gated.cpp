#include "step/gated.h"

#include <algorithm>

namespace streamserve {
namespace {

// Values of gate and up that are computed before they are put together: half a first-level cache. Few tokens
// want wide slices, since memory is read faster in long runs.
constexpr uint32_t kSliceFloats = 6144;

// The rows of a matrix from a tile's first on.
PackedMatrix rows_from(const Kernels& kernels, const PackedMatrix& matrix, uint32_t row) {
  return {matrix.packing, matrix.rows - row, matrix.cols,
          matrix.data + kernels.packed_bytes(matrix.packing, row, matrix.cols)};
}

// Adds the bias of columns [first, first + count) to the rows of a slice.
void add_bias(float* rows, size_t stride, uint32_t tokens, const float* bias, uint32_t first,
              uint32_t count) {
  if (!bias) return;
  for (uint32_t t = 0; t < tokens; ++t) {
    for (uint32_t k = 0; k < count; ++k) rows[t * stride + k] += bias[first + k];
  }
}

uint32_t slice_units(uint32_t tokens) { return std::max(1U, kSliceFloats / (2 * kUnitColumns * tokens)); }

}  // namespace

size_t gated_floats(uint32_t tokens) {
  return std::max(size_t{kSliceFloats}, size_t{2} * kUnitColumns * tokens);
}

void multiply_gated(const Kernels& kernels, const GatedProduct& product, uint32_t begin, uint32_t end,
                    Workspace& work) {
  const auto fill =
      product.function == Gate::kSilu ? kernels.silu_pack_activations : kernels.gelu_pack_activations;
  const uint32_t tokens = product.out.tokens;
  const uint32_t units = slice_units(tokens);
  const size_t stride = size_t{2} * units * kUnitColumns;
  float* const gate = work.feed.get();
  float* const up = gate + stride / 2;
  for (uint32_t unit = begin; unit < end; unit += units) {
    const TileRange tiles = tiles_of_units(*product.gate, unit, std::min(unit + units, end));
    const uint32_t first = tiles.begin * kTileRows;
    const uint32_t last = std::min(tiles.end * kTileRows, product.gate->rows);
    const uint32_t count = tiles.end - tiles.begin;
    kernels.matmul(rows_from(kernels, *product.gate, first), product.gate_input, 0, count, gate, stride,
                   false);
    kernels.matmul(rows_from(kernels, *product.up, first), product.up_input, 0, count, up, stride, false);
    work.clock.lap(product.multiplying);
    add_bias(gate, stride, tokens, product.gate_bias, first, last - first);
    add_bias(up, stride, tokens, product.up_bias, first, last - first);
    fill(gate, up, stride, {0, tokens, first, last}, product.out);
    work.clock.lap(product.packing);
  }
}

}  // namespace streamserve
