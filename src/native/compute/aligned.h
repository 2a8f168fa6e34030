// Memory aligned for the kernels.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

namespace streamserve {

inline constexpr size_t kKernelAlignment = 64;

struct FreeAligned {
  void operator()(void* memory) const { ::operator delete (memory, std::align_val_t{kKernelAlignment}); }
};

template <typename T>
using AlignedArray = std::unique_ptr<T[], FreeAligned>;

// `count` uninitialised elements of a trivial type; throws std::bad_alloc.
template <typename T>
AlignedArray<T> aligned_array(size_t count) {
  const size_t bytes = (count * sizeof(T) + kKernelAlignment - 1) / kKernelAlignment * kKernelAlignment;
  return AlignedArray<T>(static_cast<T*>(::operator new (bytes, std::align_val_t{kKernelAlignment})));
}

}  // namespace streamserve
