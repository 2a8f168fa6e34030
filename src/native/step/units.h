// How matrices are shared out over chunks.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/kernels.h"

namespace streamserve {

// Chunks begin at multiples of so many tiles: the kernels take that many at once.
inline constexpr uint32_t kTilesAUnit = 4;

// Chunks of a region for each core: enough to even out a core that is slow or comes late.
inline constexpr uint32_t kChunksACore = 6;

inline uint32_t divide_up(uint32_t a, uint32_t b) { return (a + b - 1) / b; }
inline uint32_t tiles_of(const PackedMatrix& matrix) { return divide_up(matrix.rows, kTileRows); }
inline uint32_t units_of(const PackedMatrix& matrix) { return divide_up(tiles_of(matrix), kTilesAUnit); }

struct TileRange {
  uint32_t begin;
  uint32_t end;
};

// The tiles of a matrix in units [begin, end) of a row of matrices in which its own begin at `first`.
inline TileRange tiles_within(const PackedMatrix& matrix, uint64_t first, uint64_t begin, uint64_t end) {
  const uint64_t last = first + units_of(matrix);
  const auto from = static_cast<uint32_t>(std::clamp(begin, first, last) - first);
  const auto to = static_cast<uint32_t>(std::clamp(end, first, last) - first);
  return {from * kTilesAUnit, std::min(to * kTilesAUnit, tiles_of(matrix))};
}

}  // namespace streamserve
