// Reads tensors and packs them, several at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/kernels.h"
#include "source/model_source.h"

namespace streamserve {

struct PackJob {
  const TensorInfo* tensor;
  uint64_t first_row;    // of the tensor; the target says how many follow
  Format format;         // of the tensor
  size_t packed_offset;  // in the packed memory
  PackedMatrix* target;  // gets its data pointer
};

// Runs all jobs on up to `threads` threads, the largest first; rethrows the first failure once all have
// ended. Leaves the targets' data pointers alone.
void run_pack_jobs(const ModelSource& source, const Kernels& kernels, const std::vector<PackJob>& jobs,
                   uint8_t* packed, uint32_t threads);

}  // namespace streamserve
