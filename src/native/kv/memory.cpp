#include "kv/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "compute/placement.h"
#include "error.h"

namespace streamserve {
namespace {

[[noreturn]] void refuse(size_t bytes, const char* purpose) {
  throw EngineError(ErrorCode::kOutOfMemory, "Cannot get " + std::to_string(bytes >> 20) + " MiB for " +
                                                 purpose + ": the machine has too little memory.");
}

}  // namespace

LargeMemory::LargeMemory(size_t bytes, const char* purpose) : size_(bytes) {
  // The kernel lends more than there is and ends the process later; so look first.
  const uint64_t machine =
      static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  if (bytes > machine) refuse(bytes, purpose);
  if (bytes == 0) return;
  void* mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) refuse(bytes, purpose);
  bytes_ = static_cast<uint8_t*>(mapped);
#ifdef MADV_HUGEPAGE
  ::madvise(mapped, bytes, MADV_HUGEPAGE);
#endif
  interleave_pages(mapped, bytes);
}

LargeMemory::~LargeMemory() {
  if (bytes_) ::munmap(bytes_, size_);
}

LargeMemory::LargeMemory(LargeMemory&& other) noexcept
    : bytes_(std::exchange(other.bytes_, nullptr)), size_(std::exchange(other.size_, 0)) {}

LargeMemory& LargeMemory::operator=(LargeMemory&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace streamserve
