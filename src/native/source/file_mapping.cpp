#include "source/file_mapping.h"

#include <sys/mman.h>

#include <utility>

#include "error.h"

namespace streamserve {

FileMapping::FileMapping(const File& file) : size_(file.size()) {
  void* mapped = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.descriptor(), 0);
  if (mapped == MAP_FAILED) {
    size_ = 0;
    throw EngineError(ErrorCode::kOutOfMemory, "Cannot map " + file.path() + ": the address space is full.");
  }
  bytes_ = static_cast<const uint8_t*>(mapped);
#ifdef MADV_HUGEPAGE
  // Only some file systems and kernels can; where they can't it changes nothing.
  ::madvise(mapped, size_, MADV_HUGEPAGE);
#endif
}

FileMapping::~FileMapping() {
  if (bytes_) ::munmap(const_cast<uint8_t*>(bytes_), size_);
}

FileMapping::FileMapping(FileMapping&& other) noexcept
    : bytes_(std::exchange(other.bytes_, nullptr)), size_(std::exchange(other.size_, 0)) {}

FileMapping& FileMapping::operator=(FileMapping&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace streamserve
