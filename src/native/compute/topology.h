// Which processors this process may compute on, by memory node, and how many of them at once.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace streamserve {

// Processors that are next to the same memory.
struct CpuNode {
  uint32_t node = 0;
  // Cores first, then their further hardware threads; each in order of number.
  std::vector<uint32_t> cpus;
};

struct Topology {
  std::vector<CpuNode> nodes;
  // Whole processors' worth of time that control groups grant; 0: no limit.
  uint32_t quota = 0;

  // Processors that the process may run on.
  uint32_t allowed() const;
  // Threads that can compute at once.
  uint32_t usable() const;
};

// Where the system describes itself: directories that tests can make.
struct TopologySource {
  std::string nodes = "/sys/devices/system/node";
  std::string cpus = "/sys/devices/system/cpu";
  std::string membership = "/proc/self/cgroup";
  std::string groups = "/sys/fs/cgroup";
};

// Processors that the calling thread may run on, by number; empty where the system doesn't tell.
std::vector<uint32_t> allowed_cpus();

// What is missing or odd in the source counts as one node, each processor a core, no limit.
Topology read_topology(const TopologySource& source, const std::vector<uint32_t>& allowed);

// Of this process when first asked; a copy of it never changes.
const Topology& process_topology();

// A processor for each of `threads`, nodes in turn, cores before further hardware threads. Empty when there
// are fewer processors than threads: two that share one by force would only wait for each other.
std::vector<uint32_t> spread_threads(const Topology& topology, uint32_t threads);

// Numbers as the kernel lists them, "0-3,8": what is no list is empty.
std::vector<uint32_t> parse_cpu_list(const std::string& text);

}  // namespace streamserve
