// Micro-kernels of the float packings: f32 fused multiply-adds after exact widening, in order of k.
// Include after a lanes_*.h and matmul.h.
#pragma once

#include "matmul.h"

namespace streamserve {
namespace {

template <Packing kPacking>
inline Lanes load_weights(const uint8_t* tile, size_t k) {
  if constexpr (kPacking == Packing::kFloat32) {
    return load(reinterpret_cast<const float*>(tile) + k * kTileRows);
  } else if constexpr (kPacking == Packing::kFloat16) {
    return load_f16(reinterpret_cast<const uint16_t*>(tile) + k * kTileRows);
  } else {
    return load_bf16(reinterpret_cast<const uint16_t*>(tile) + k * kTileRows);
  }
}

template <Packing kPacking, uint32_t kTokens, uint32_t kTiles>
void float_tile(const TileJob& job) {
  Lanes sums[kTokens][kTiles];
#pragma GCC unroll 16
  for (uint32_t i = 0; i < kTokens; i++) {
#pragma GCC unroll 16
    for (uint32_t j = 0; j < kTiles; j++) sums[i][j] = zero();
  }
  const auto* panel = reinterpret_cast<const float*>(job.panel);
  for (uint32_t k = 0; k < job.cols; k++) {
    Lanes weights[kTiles];
#pragma GCC unroll 16
    for (uint32_t j = 0; j < kTiles; j++)
      weights[j] = load_weights<kPacking>(job.tile + j * job.tile_bytes, k);
#pragma GCC unroll 16
    for (uint32_t i = 0; i < kTokens; i++) {
      const Lanes x = broadcast(panel[i]);
#pragma GCC unroll 16
      for (uint32_t j = 0; j < kTiles; j++) sums[i][j] = fused(weights[j], x, sums[i][j]);
    }
    panel += kTokens;
  }
#pragma GCC unroll 16
  for (uint32_t i = 0; i < kTokens; i++) {
#pragma GCC unroll 16
    for (uint32_t j = 0; j < kTiles; j++) {
      write_sums(job.out + i * job.stride + j * kTileRows, sums[i][j], job.rows - j * kTileRows,
                 job.accumulate);
    }
  }
}

}  // namespace
}  // namespace streamserve
