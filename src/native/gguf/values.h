// Readers of single GGUF values.
#pragma once

#include <string>

#include "source/model_source.h"

namespace streamserve {

// A counted string of at most `most` bytes; `what` names it in errors.
std::string read_string(FileCursor& cursor, uint64_t most, const char* what);

// A metadata value of GGUF type number `type`; `key` names it in errors. Arrays of arrays are refused.
MetadataValue read_value(FileCursor& cursor, uint32_t type, const std::string& key);

// Bytes of one element; 0 for strings, arrays and unknown numbers.
uint64_t element_bytes(uint32_t type);

}  // namespace streamserve
