// Rounding of weights to GGUF's block formats, by search: of many scales the one whose rounded weights are
// nearest, each weight counting by its importance.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/kernels.h"

namespace streamserve {

// Whether quantise_row() writes this format.
bool can_quantise(Format format);

// Rounds a row. `importance`: one non-negative weight a column, of the squared error; empty for all alike.
// `out`: format_row_bytes(format, cols) bytes, which must not be 0. Values must be finite.
//
// Blocks of 32: candidates of the scale are tried around the one that just spans the block; each is refitted
// to the weights as they were rounded (weighted least squares), rounded to f16 as the file keeps it, and the
// weights are rounded once more with that. No result is worse than rounding by the span alone, which is the
// first candidate.
void quantise_row(Format format, std::span<const float> row, std::span<const float> importance, uint8_t* out);

}  // namespace streamserve
