// The shapes of the families whose integer tiles differ by their dots alone. Include after an
// integer_tiles_*.h.
#pragma once

#include "float_tiles.h"
#include "matmul.h"

namespace streamserve {
namespace {

template <typename Dots>
struct DotShapes {
  static constexpr uint32_t kWidestFloat = 6;
  static constexpr uint32_t kAttentionRows = 6;
  static constexpr uint32_t kAttentionWide = 1;

  template <Packing kPacking, uint32_t kTokens>
  static constexpr PanelKernel kernel() {
    if constexpr (is_quantised(kPacking)) {
      return {integer_tile<kPacking, kTokens, Dots>, integer_tile<kPacking, kTokens, Dots>, 1};
    } else {
      constexpr uint32_t kTiles = kTokens <= 2 ? 2 : 1;
      return {float_tile<kPacking, kTokens, kTiles>, float_tile<kPacking, kTokens, 1>, kTiles};
    }
  }
};

}  // namespace
}  // namespace streamserve
