// A whole file, mapped for reading and shared with every other process that maps it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "source/file.h"

namespace streamserve {

class FileMapping {
 public:
  FileMapping() = default;
  // Throws `out_of_memory` when the address space lacks room, and for an empty file.
  explicit FileMapping(const File& file);
  ~FileMapping();
  FileMapping(FileMapping&& other) noexcept;
  FileMapping& operator=(FileMapping&& other) noexcept;

  std::span<const uint8_t> bytes() const { return {bytes_, size_}; }

 private:
  const uint8_t* bytes_ = nullptr;
  size_t size_ = 0;
};

}  // namespace streamserve
