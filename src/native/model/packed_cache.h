// Packed weights on disk, so that only the first start packs them. One file a model, layout and choice of
// packings; whole files alone appear under their names, and the least recently used go when the directory
// grows too large.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "model/packed_file.h"
#include "source/file_mapping.h"

namespace streamserve {

struct PackedCacheOptions {
  // Empty: no cache.
  std::string directory;
  // What all files together may take.
  uint64_t most_bytes = 0;
};

class PackedCache {
 public:
  PackedCache(PackedCacheOptions options, PackedContents contents, uint32_t threads);

  // The file for the contents, checked and mapped; nothing if there is none that can be used. A file that is
  // no good is named in `notice`.
  std::optional<FileMapping> find();
  // Writes the bytes of the sealed file and maps it; nothing, and the reason in `notice`, if that can't be
  // done.
  std::optional<FileMapping> store(std::span<const uint8_t> bytes);

  // What people should know; empty for nothing.
  const std::string& notice() const { return notice_; }

 private:
  void make_room(uint64_t bytes) const;
  void write(const std::string& temporary, std::span<const uint8_t> bytes) const;

  const PackedCacheOptions options_;
  const PackedContents contents_;
  const uint32_t threads_;
  std::string path_;
  std::string notice_;
};

}  // namespace streamserve
