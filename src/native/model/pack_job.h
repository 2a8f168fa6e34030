// Reads tensors and packs them, several at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/kernels.h"
#include "source/model_source.h"

namespace streamserve {

// Rows of a tensor that become a matrix of their own.
struct PackPart {
  uint64_t first_row;    // the target says how many follow
  size_t packed_offset;  // in the packed memory
  PackedMatrix* target;  // gets its data pointer
};

// A tensor, which is read once.
struct PackJob {
  const TensorInfo* tensor;
  Format format;
  std::vector<PackPart> parts;
};

// Runs all jobs on up to `threads` threads, the largest first; rethrows the first failure once all have
// ended. Leaves the targets' data pointers alone.
void run_pack_jobs(const ModelSource& source, const Kernels& kernels, const std::vector<PackJob>& jobs,
                   uint8_t* packed, uint32_t threads);

}  // namespace streamserve
