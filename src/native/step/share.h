// What a chunk of a step computes: some tokens, and of a matrix some of its outputs.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/kernels.h"

namespace streamserve {

// Shares begin at multiples of so many tiles: the kernels take that many at once.
inline constexpr uint32_t kTilesAUnit = 4;
// Outputs of a unit.
inline constexpr uint32_t kUnitColumns = kTilesAUnit * kTileRows;

// Chunks of a region for each core: enough to even out a core that is slow or comes late.
inline constexpr uint32_t kChunksACore = 6;

inline uint32_t divide_up(uint32_t a, uint32_t b) { return (a + b - 1) / b; }
inline uint32_t tiles_of(const PackedMatrix& matrix) { return divide_up(matrix.rows, kTileRows); }
inline uint32_t units_of(const PackedMatrix& matrix) { return divide_up(tiles_of(matrix), kTilesAUnit); }

// Of the batch's tokens.
struct Tokens {
  uint32_t begin;
  uint32_t end;
  uint32_t count() const { return end - begin; }
};

// Part `part` of `parts` equal ones.
struct Share {
  uint32_t part = 0;
  uint32_t parts = 1;

  uint32_t begin(uint32_t things) const { return static_cast<uint32_t>(uint64_t{things} * part / parts); }
  uint32_t end(uint32_t things) const { return static_cast<uint32_t>(uint64_t{things} * (part + 1) / parts); }
};

struct TileRange {
  uint32_t begin;
  uint32_t end;
};

// The tiles of units [begin, end) of a matrix.
inline TileRange tiles_of_units(const PackedMatrix& matrix, uint32_t begin, uint32_t end) {
  const uint32_t tiles = tiles_of(matrix);
  return {std::min(begin * kTilesAUnit, tiles), std::min(end * kTilesAUnit, tiles)};
}

// How many shares of a matrix there can be: integer kernels take one tile at a time anyhow.
inline uint32_t most_shares(const PackedMatrix& matrix) {
  return is_quantised(matrix.packing) ? tiles_of(matrix) : units_of(matrix);
}

inline TileRange tiles_of_share(const PackedMatrix& matrix, Share share) {
  const uint32_t most = most_shares(matrix);
  if (is_quantised(matrix.packing)) return {share.begin(most), share.end(most)};
  return tiles_of_units(matrix, share.begin(most), share.end(most));
}

// Multiplies a share of a matrix's outputs.
inline void multiply_share(const Kernels& kernels, const PackedMatrix& matrix, const Activations& in,
                           Share share, float* out, size_t stride, bool accumulate) {
  const TileRange tiles = tiles_of_share(matrix, share);
  if (tiles.begin < tiles.end) {
    kernels.matmul(matrix, in, tiles.begin, tiles.end, out, stride, accumulate);
  }
}

}  // namespace streamserve
