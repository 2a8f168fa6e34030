// A step as the compute pool sees it: regions that run one after the other, each of chunks that may run in
// any order on any threads.
#pragma once

#include <cstdint>
#include <span>

namespace streamserve {

// One compute thread as a chunk sees it.
struct ThreadScratch {
  // Working memory; any chunk may overwrite it. 64-byte aligned.
  std::span<float> floats;
  // 0 for the collecting thread, from 1 for the pool's own: no two threads inside a program share a number.
  uint32_t thread = 0;
};

class Program {
 public:
  virtual ~Program() = default;
  // Chunks of each region, at least 1; fixed while the program runs.
  virtual std::span<const uint32_t> regions() const = 0;
  // Computes one chunk. Chunks of a region run concurrently and must not depend on each other.
  virtual void run(uint32_t region, uint32_t chunk, ThreadScratch scratch) noexcept = 0;
  // Runs once, on one thread, after a region's last chunk and before the next region's first: the place for
  // work too short to share.
  virtual void finish(uint32_t region) noexcept = 0;
};

}  // namespace streamserve
