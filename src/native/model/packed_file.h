// A file of packed weights: one page of header, the packed matrices, the embeddings. Everything that would
// make it wrong to use is in the header and compared; see docs/decisions/packed-cache.md.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "model/digest.h"
#include "source/file.h"

namespace streamserve {

// What must agree between a file and who wants to use it.
struct PackedContents {
  // Of the model's files, and of what is packed how and where.
  DigestBytes model;
  DigestBytes plan;
  // Name of the kernels' layout, at most 31 characters.
  std::string layout;
  uint64_t packed_bytes = 0;
  uint64_t embedding_bytes = 0;
};

// Where the parts lie.
uint64_t packed_begin();
uint64_t embedding_begin(const PackedContents& contents);
uint64_t packed_file_bytes(const PackedContents& contents);

// Makes a file of `bytes`, which hold the parts at their places and zeros between: writes the header before
// them.
void seal_packed_file(std::span<uint8_t> bytes, const PackedContents& contents, uint32_t threads);

// Why `file`, whose bytes are `bytes`, is not a whole file of these contents; nothing if it is one. Reads all
// of it once, on up to `threads` threads.
std::optional<std::string> packed_file_fault(std::span<const uint8_t> bytes, const PackedContents& contents,
                                             uint32_t threads);

}  // namespace streamserve
