#include "compute/topology.h"

#ifdef __linux__
#include <sched.h>
#endif

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>
#include <utility>

namespace streamserve {
namespace {

namespace fs = std::filesystem;

// No kernel is built for more; bounds what a list may make us keep.
constexpr uint32_t kMostCpus = 8192;

std::string read_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

bool is_listed(const std::vector<uint32_t>& sorted, uint32_t cpu) {
  return std::binary_search(sorted.begin(), sorted.end(), cpu);
}

// Whether an earlier allowed processor is the same core.
bool further_thread(const TopologySource& source, uint32_t cpu, const std::vector<uint32_t>& allowed) {
  const fs::path siblings =
      fs::path(source.cpus) / ("cpu" + std::to_string(cpu)) / "topology" / "thread_siblings_list";
  const std::vector<uint32_t> same = parse_cpu_list(read_line(siblings));
  return std::any_of(same.begin(), same.end(),
                     [&](uint32_t other) { return other < cpu && is_listed(allowed, other); });
}

// Processors' worth of time of one control group; 0: no limit.
double group_limit(const fs::path& group) {
  double quota = 0;
  double period = 0;
  std::istringstream both(read_line(group / "cpu.max"));
  if (both >> quota >> period && quota > 0 && period > 0) return quota / period;
  std::istringstream old_quota(read_line(group / "cpu.cfs_quota_us"));
  std::istringstream old_period(read_line(group / "cpu.cfs_period_us"));
  if (old_quota >> quota && old_period >> period && quota > 0 && period > 0) return quota / period;
  return 0;
}

// The least limit of the group at `path` below `root` and of those that it lies in. In a container `path` may
// be the host's: groups that are not there limit nothing.
double least_limit(const fs::path& root, const std::string& path) {
  double least = 0;
  for (fs::path group = fs::path(path).relative_path();; group = group.parent_path()) {
    const double limit = group_limit(root / group);
    if (limit > 0 && (least == 0 || limit < least)) least = limit;
    if (group.empty()) return least;
  }
}

// Whether a line of /proc/self/cgroup names the group that limits processor time: version 2, or version 1's
// "cpu".
bool limits_time(const std::string& controllers) {
  std::istringstream names(controllers);
  for (std::string name; std::getline(names, name, ',');) {
    if (name == "cpu") return true;
  }
  return controllers.empty();
}

uint32_t read_quota(const TopologySource& source) {
  std::ifstream file(source.membership);
  double least = 0;
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (!limits_time(controllers)) continue;
    const fs::path root = controllers.empty() ? fs::path(source.groups) : fs::path(source.groups) / "cpu";
    const double limit = least_limit(root, line.substr(second + 1));
    if (limit > 0 && (least == 0 || limit < least)) least = limit;
  }
  // Rounded down: threads beyond it would be stopped in the middle of a step, and all others wait for them.
  return least == 0 ? 0 : std::max(1u, static_cast<uint32_t>(std::min<double>(least, kMostCpus)));
}

}  // namespace

uint32_t Topology::allowed() const {
  size_t cpus = 0;
  for (const CpuNode& node : nodes) cpus += node.cpus.size();
  return static_cast<uint32_t>(cpus);
}

uint32_t Topology::usable() const {
  const uint32_t cpus = std::max(1u, allowed());
  return quota == 0 ? cpus : std::min(cpus, quota);
}

std::vector<uint32_t> parse_cpu_list(const std::string& text) {
  std::vector<uint32_t> cpus;
  std::istringstream ranges(text);
  for (std::string range; std::getline(ranges, range, ',');) {
    uint32_t from = 0;
    uint32_t to = 0;
    char dash = 0;
    std::istringstream ends(range);
    if (!(ends >> from)) return {};
    if (!(ends >> dash >> to)) to = from;
    if (to < from || to >= kMostCpus) return {};
    for (uint32_t cpu = from; cpu <= to; ++cpu) cpus.push_back(cpu);
  }
  std::sort(cpus.begin(), cpus.end());
  cpus.erase(std::unique(cpus.begin(), cpus.end()), cpus.end());
  return cpus;
}

std::vector<uint32_t> allowed_cpus() {
  std::vector<uint32_t> cpus;
#ifdef __linux__
  // Larger than any machine's: the kernel refuses a set that is smaller than its own.
  cpu_set_t* set = CPU_ALLOC(kMostCpus);
  if (set == nullptr) return cpus;
  const size_t bytes = CPU_ALLOC_SIZE(kMostCpus);
  CPU_ZERO_S(bytes, set);
  if (::sched_getaffinity(0, bytes, set) == 0) {
    for (uint32_t cpu = 0; cpu < kMostCpus; ++cpu) {
      if (CPU_ISSET_S(cpu, bytes, set)) cpus.push_back(cpu);
    }
  }
  CPU_FREE(set);
#endif
  return cpus;
}

Topology read_topology(const TopologySource& source, const std::vector<uint32_t>& allowed) {
  Topology topology;
  topology.quota = read_quota(source);
  std::vector<uint32_t> left = allowed;
  for (const uint32_t node : parse_cpu_list(read_line(fs::path(source.nodes) / "online"))) {
    const fs::path list = fs::path(source.nodes) / ("node" + std::to_string(node)) / "cpulist";
    CpuNode here{node, {}};
    for (const uint32_t cpu : parse_cpu_list(read_line(list))) {
      if (is_listed(left, cpu)) here.cpus.push_back(cpu);
    }
    std::erase_if(left, [&](uint32_t cpu) { return is_listed(here.cpus, cpu); });
    // A node of memory alone, or one whose processors are for others.
    if (!here.cpus.empty()) topology.nodes.push_back(std::move(here));
  }
  if (topology.nodes.empty()) {
    topology.nodes.push_back({0, std::move(left)});
  } else {
    // Processors that no node claims: somewhere they must count.
    topology.nodes.front().cpus.insert(topology.nodes.front().cpus.end(), left.begin(), left.end());
  }
  for (CpuNode& node : topology.nodes) {
    std::vector<uint32_t> cores;
    std::vector<uint32_t> further;
    for (const uint32_t cpu : node.cpus) {
      (further_thread(source, cpu, allowed) ? further : cores).push_back(cpu);
    }
    cores.insert(cores.end(), further.begin(), further.end());
    node.cpus = std::move(cores);
  }
  return topology;
}

const Topology& process_topology() {
  static const Topology topology = [] {
    std::vector<uint32_t> allowed = allowed_cpus();
    if (allowed.empty()) {
      for (uint32_t cpu = 0; cpu < std::max(1u, std::thread::hardware_concurrency()); ++cpu) {
        allowed.push_back(cpu);
      }
    }
    return read_topology({}, allowed);
  }();
  return topology;
}

std::vector<uint32_t> spread_threads(const Topology& topology, uint32_t threads) {
  if (threads > topology.allowed()) return {};
  std::vector<uint32_t> cpus;
  std::vector<size_t> taken(topology.nodes.size(), 0);
  for (size_t turn = 0; cpus.size() < threads; turn = (turn + 1) % topology.nodes.size()) {
    const CpuNode& node = topology.nodes[turn];
    if (taken[turn] < node.cpus.size()) cpus.push_back(node.cpus[taken[turn]++]);
  }
  return cpus;
}

}  // namespace streamserve
