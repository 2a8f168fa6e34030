// Tensor formats that GGUF files name.
#pragma once

#include <cstdint>

namespace streamserve {

struct FormatInfo {
  uint32_t number;
  const char* name;
  uint32_t block_elements;
  // 0 for formats that are known by name alone.
  uint32_t block_bytes;
};

// nullptr when GGUF has no such number.
const FormatInfo* find_format(uint32_t number);

}  // namespace streamserve
