// Packing, which every family shares: it runs once a matrix, and its result is the same for all.
#pragma once

#include "kernels.h"

namespace streamserve {

// The members of Kernels of the same names.
size_t packed_bytes(Packing packing, uint32_t rows, uint32_t cols);
void pack(Format format, const uint8_t* source, Packing packing, uint32_t rows, uint32_t cols,
          uint32_t tile_begin, uint32_t tile_end, uint8_t* out);
void embed_row(Format format, const uint8_t* row, uint32_t cols, float* out);

// Name of the layout of layout.h; changes when the packed bytes do.
inline constexpr char kLayoutName[] = "rows16-pairs-v1";

}  // namespace streamserve
