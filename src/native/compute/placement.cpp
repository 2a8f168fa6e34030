#include "compute/placement.h"

#ifdef __linux__
#include <linux/mempolicy.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <array>

#include "error.h"

namespace streamserve {
namespace {

// What a node mask holds: more nodes than any kernel is built for.
constexpr uint32_t kMostNodes = 1024;
constexpr uint32_t kWordBits = sizeof(unsigned long) * 8;
using NodeMask = std::array<unsigned long, kMostNodes / kWordBits>;

// The nodes that this thread's loading is spread over; none: as the system likes.
thread_local NodeMask spread_over{};
thread_local bool spreading = false;

std::string list_of(std::vector<uint32_t> cpus) {
  std::sort(cpus.begin(), cpus.end());
  std::string text;
  for (size_t from = 0; from < cpus.size();) {
    size_t to = from;
    while (to + 1 < cpus.size() && cpus[to + 1] == cpus[to] + 1) ++to;
    if (!text.empty()) text += ",";
    text += std::to_string(cpus[from]);
    if (to > from) text.append("-").append(std::to_string(cpus[to]));
    from = to + 1;
  }
  return text;
}

#ifdef __linux__
void pin(pthread_t thread, std::span<const uint32_t> cpus, bool& done) {
  const uint32_t highest = *std::max_element(cpus.begin(), cpus.end());
  cpu_set_t* set = CPU_ALLOC(highest + 1);
  if (set == nullptr) {
    done = false;
    return;
  }
  const size_t bytes = CPU_ALLOC_SIZE(highest + 1);
  CPU_ZERO_S(bytes, set);
  for (const uint32_t cpu : cpus) CPU_SET_S(cpu, bytes, set);
  done = ::pthread_setaffinity_np(thread, bytes, set) == 0 && done;
  CPU_FREE(set);
}
#endif

}  // namespace

Affinity affinity_of(const std::string& name) {
  if (name == "auto") return Affinity::kAuto;
  if (name == "pin") return Affinity::kPin;
  if (name == "none") return Affinity::kNone;
  throw EngineError(ErrorCode::kArgumentInvalid,
                    "engine.affinity is \"" + name + "\"; it can be \"auto\", \"pin\" or \"none\".");
}

Placement place(const Topology& topology, uint32_t threads, Affinity affinity) {
  Placement placement;
  const size_t nodes = topology.nodes.size();
  const bool wanted = affinity == Affinity::kPin || (affinity == Affinity::kAuto && nodes > 1);
  if (wanted) placement.cpus = spread_threads(topology, threads);
  placement.interleaved = affinity != Affinity::kNone && nodes > 1;
  std::string& text = placement.description;
  text = std::to_string(nodes) + (nodes == 1 ? " node, " : " nodes, ");
  if (!placement.cpus.empty()) {
    text += "pinned to " + list_of(placement.cpus);
  } else {
    text += wanted ? "not pinned: more threads than processors" : "not pinned";
  }
  if (placement.interleaved) text += ", memory interleaved";
  if (topology.quota != 0) text += ", a quota of " + std::to_string(topology.quota);
  return placement;
}

bool pin_threads(std::span<const pthread_t> threads, std::span<const uint32_t> cpus,
                 const Topology& topology) {
  bool done = true;
#ifdef __linux__
  std::vector<uint32_t> anywhere;
  for (const CpuNode& node : topology.nodes) {
    anywhere.insert(anywhere.end(), node.cpus.begin(), node.cpus.end());
  }
  if (anywhere.empty()) return false;
  for (size_t i = 0; i < threads.size(); ++i) {
    pin(threads[i], i < cpus.size() ? cpus.subspan(i, 1) : std::span<const uint32_t>(anywhere), done);
  }
#else
  static_cast<void>(threads);
  static_cast<void>(topology);
  done = cpus.empty();
#endif
  return done;
}

InterleavedMemory::InterleavedMemory(bool on, const Topology& topology) {
#ifdef __linux__
  if (!on) return;
  NodeMask mask{};
  for (const CpuNode& node : topology.nodes) {
    if (node.node < kMostNodes) mask[node.node / kWordBits] |= 1ul << (node.node % kWordBits);
  }
  if (::syscall(SYS_set_mempolicy, MPOL_INTERLEAVE, mask.data(), kMostNodes) != 0) return;
  spread_over = mask;
  spreading = set_ = true;
#else
  static_cast<void>(on);
  static_cast<void>(topology);
#endif
}

InterleavedMemory::~InterleavedMemory() {
#ifdef __linux__
  if (!set_) return;
  ::syscall(SYS_set_mempolicy, MPOL_DEFAULT, nullptr, 0);
  spreading = false;
#endif
}

void interleave_pages(void* from, size_t bytes) {
#ifdef __linux__
  if (!spreading) return;
  // Refused, pages lie where they are first touched: slower, not wrong.
  ::syscall(SYS_mbind, from, bytes, MPOL_INTERLEAVE, spread_over.data(), kMostNodes, 0);
#else
  static_cast<void>(from);
  static_cast<void>(bytes);
#endif
}

}  // namespace streamserve
