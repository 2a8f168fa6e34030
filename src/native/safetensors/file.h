// One .safetensors file: 8 bytes with the header's length, a JSON header, the tensors' bytes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "source/file.h"

namespace streamserve {

struct StoredTensor {
  std::string name;
  // As the file calls it: "F32", "BF16", "F8_E4M3", ...
  std::string dtype;
  // Outermost first.
  std::vector<uint64_t> shape;
  // From the start of the file.
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

// Reads and checks the header: tensors must fill the file without gap or overlap, each as long as its shape
// says. Throws `model_file_truncated` or `model_file_invalid`.
std::vector<StoredTensor> read_safetensors_header(const File& file);

}  // namespace streamserve
