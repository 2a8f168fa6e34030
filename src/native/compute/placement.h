// Where compute threads run and where the memory that they share lies. docs/decisions/placement.md gives the
// reasons.
#pragma once

#include <pthread.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "compute/topology.h"

namespace streamserve {

enum class Affinity {
  kAuto,  // pinned where there is more than one memory node
  kPin,
  kNone,
};

// Throws `native_argument_invalid` for another name than "auto", "pin" and "none".
Affinity affinity_of(const std::string& name);

struct Placement {
  // A processor for each compute thread; empty: the system's scheduler chooses.
  std::vector<uint32_t> cpus;
  // Whether shared memory is spread over the nodes, page by page.
  bool interleaved = false;
  // For people: "2 nodes, pinned to 0-3", with what limits the number of threads.
  std::string description;
};

Placement place(const Topology& topology, uint32_t threads, Affinity affinity);

// Pins each thread to its processor, the first to the first; without processors lets all run wherever the
// process may. A system that refuses is obeyed: false, and threads may run anywhere.
bool pin_threads(std::span<const pthread_t> threads, std::span<const uint32_t> cpus,
                 const Topology& topology);

// While one lives, what its thread loads or maps (LargeMemory, files' pages read by it or by threads that it
// starts) is spread over the topology's nodes. Does nothing when `on` is false or the system refuses.
class InterleavedMemory {
 public:
  InterleavedMemory(bool on, const Topology& topology);
  ~InterleavedMemory();
  InterleavedMemory(const InterleavedMemory&) = delete;
  InterleavedMemory& operator=(const InterleavedMemory&) = delete;

 private:
  bool set_ = false;
};

// Spreads the pages of a fresh mapping, whoever touches them first, if an InterleavedMemory of this thread
// lives.
void interleave_pages(void* from, size_t bytes);

}  // namespace streamserve
