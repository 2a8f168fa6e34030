// Reads tensors and packs them, several at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "gguf/file.h"
#include "kernels/kernels.h"

namespace streamserve {

struct PackJob {
  uint64_t offset;       // of the tensor in the file
  size_t bytes;          // of the tensor in the file
  Format format;         // of the tensor in the file
  size_t packed_offset;  // in the packed memory
  PackedMatrix* target;  // gets its data pointer
};

// Runs all jobs on up to `threads` threads, the largest first; rethrows the first failure once all have
// ended.
void run_pack_jobs(const File& file, const Kernels& kernels, std::vector<PackJob> jobs, uint8_t* packed,
                   uint32_t threads);

}  // namespace streamserve
