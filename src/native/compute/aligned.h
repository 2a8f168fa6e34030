// Memory aligned for the kernels.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace streamserve {

inline constexpr size_t kKernelAlignment = 64;

struct FreeAligned {
  void operator()(void* memory) const { std::free(memory); }
};

template <typename T>
using AlignedArray = std::unique_ptr<T[], FreeAligned>;

// `count` uninitialised elements of a trivial type; throws std::bad_alloc.
template <typename T>
AlignedArray<T> aligned_array(size_t count) {
  const size_t bytes = (count * sizeof(T) + kKernelAlignment - 1) / kKernelAlignment * kKernelAlignment;
  void* memory = std::aligned_alloc(kKernelAlignment, bytes > 0 ? bytes : kKernelAlignment);
  if (!memory) throw std::bad_alloc();
  return AlignedArray<T>(static_cast<T*>(memory));
}

}  // namespace streamserve
