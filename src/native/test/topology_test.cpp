#include "compute/topology.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "compute/placement.h"
#include "error.h"
#include "unit_test.h"

namespace streamserve {
namespace {

namespace fs = std::filesystem;

// A system's description of itself, in a directory of its own.
class FakeSystem {
 public:
  FakeSystem() : root_(fs::temp_directory_path() / ("streamserve-topology-" + std::to_string(::getpid()))) {
    fs::remove_all(root_);
    fs::create_directories(root_);
  }
  ~FakeSystem() { fs::remove_all(root_); }
  FakeSystem(const FakeSystem&) = delete;
  FakeSystem& operator=(const FakeSystem&) = delete;

  void write(const std::string& path, const std::string& text) const {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text << "\n";
  }
  void node(uint32_t number, const std::string& cpus) const {
    write("node/node" + std::to_string(number) + "/cpulist", cpus);
  }
  void siblings(uint32_t cpu, const std::string& cpus) const {
    write("cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list", cpus);
  }
  Topology read(const std::vector<uint32_t>& allowed) const {
    return read_topology({(root_ / "node").string(), (root_ / "cpu").string(),
                          (root_ / "membership").string(), (root_ / "groups").string()},
                         allowed);
  }

 private:
  const fs::path root_;
};

using Cpus = std::vector<uint32_t>;

// Two nodes of two cores with two hardware threads each: core c has c and c + 4.
void two_nodes(const FakeSystem& system) {
  system.write("node/online", "0-1");
  system.node(0, "0-1,4-5");
  system.node(1, "2-3,6-7");
  for (uint32_t cpu = 0; cpu < 8; ++cpu) {
    system.siblings(cpu, std::to_string(cpu % 4) + "," + std::to_string(cpu % 4 + 4));
  }
}

}  // namespace

UNIT_TEST(topology_reads_lists_as_the_kernel_writes_them) {
  CHECK(parse_cpu_list("0-3,8,10-11\n") == Cpus({0, 1, 2, 3, 8, 10, 11}));
  CHECK(parse_cpu_list("5") == Cpus({5}));
  for (const char* odd : {"", "\n", "x", "3-1", "0-99999999", "1,x"}) CHECK(parse_cpu_list(odd).empty());
}

UNIT_TEST(topology_spreads_threads_over_nodes_and_cores_first) {
  const FakeSystem system;
  two_nodes(system);
  const Topology topology = system.read({0, 1, 2, 3, 4, 5, 6, 7});
  CHECK_EQUAL(topology.nodes.size(), size_t{2});
  CHECK_EQUAL(topology.usable(), 8u);
  CHECK(spread_threads(topology, 2) == Cpus({0, 2}));
  CHECK(spread_threads(topology, 4) == Cpus({0, 2, 1, 3}));
  CHECK(spread_threads(topology, 8) == Cpus({0, 2, 1, 3, 4, 6, 5, 7}));
  CHECK(spread_threads(topology, 9).empty());
}

UNIT_TEST(topology_keeps_to_the_mask) {
  const FakeSystem system;
  two_nodes(system);
  // Core 1 by its second thread alone, and one node with a single processor.
  const Topology topology = system.read({0, 5, 6});
  CHECK_EQUAL(topology.usable(), 3u);
  CHECK(spread_threads(topology, 3) == Cpus({0, 6, 5}));
  // One node is left: nothing to spread over.
  const Topology one = system.read({2, 3});
  CHECK_EQUAL(one.nodes.size(), size_t{1});
  CHECK_EQUAL(one.nodes[0].node, 1u);
  CHECK(place(one, 2, Affinity::kAuto).cpus.empty());
}

UNIT_TEST(topology_without_a_description_is_one_node) {
  const FakeSystem system;
  const Topology topology = system.read({0, 3});
  CHECK_EQUAL(topology.nodes.size(), size_t{1});
  CHECK_EQUAL(topology.usable(), 2u);
  CHECK_EQUAL(topology.quota, 0u);
  system.write("node/online", "garbage");
  CHECK_EQUAL(system.read({0, 3}).allowed(), 2u);
  // Processors that no node lists still count.
  system.write("node/online", "0");
  system.node(0, "0");
  CHECK_EQUAL(system.read({0, 3}).allowed(), 2u);
}

UNIT_TEST(topology_quota_is_the_least_of_a_group_and_those_around_it) {
  const FakeSystem system;
  system.write("membership", "0::/a/b");
  system.write("groups/a/b/cpu.max", "max 100000");
  CHECK_EQUAL(system.read({0, 1, 2, 3}).quota, 0u);
  system.write("groups/a/cpu.max", "250000 100000");
  CHECK_EQUAL(system.read({0, 1, 2, 3}).quota, 2u);
  CHECK_EQUAL(system.read({0, 1, 2, 3}).usable(), 2u);
  CHECK_EQUAL(system.read({0}).usable(), 1u);
  system.write("groups/a/b/cpu.max", "50000 100000");
  CHECK_EQUAL(system.read({0, 1, 2, 3}).usable(), 1u);
}

UNIT_TEST(topology_quota_of_old_control_groups) {
  const FakeSystem system;
  system.write("membership", "4:memory:/x\n3:cpu,cpuacct:/host/path/not/here");
  system.write("groups/cpu/cpu.cfs_quota_us", "-1");
  system.write("groups/cpu/cpu.cfs_period_us", "100000");
  CHECK_EQUAL(system.read({0, 1, 2, 3}).quota, 0u);
  system.write("groups/cpu/cpu.cfs_quota_us", "300000");
  CHECK_EQUAL(system.read({0, 1, 2, 3}).quota, 3u);
}

UNIT_TEST(placement_says_what_it_does) {
  const FakeSystem system;
  two_nodes(system);
  const Topology two = system.read({0, 1, 2, 3, 4, 5, 6, 7});
  const Placement spread = place(two, 4, Affinity::kAuto);
  CHECK_EQUAL(spread.description, std::string("2 nodes, pinned to 0-3, memory interleaved"));
  CHECK(spread.interleaved);
  CHECK_EQUAL(place(two, 9, Affinity::kAuto).description,
              std::string("2 nodes, not pinned: more threads than processors, memory interleaved"));
  CHECK_EQUAL(place(two, 4, Affinity::kNone).description, std::string("2 nodes, not pinned"));
  const Topology one{{{0, {0, 1}}}, 1};
  CHECK_EQUAL(place(one, 1, Affinity::kAuto).description, std::string("1 node, not pinned, a quota of 1"));
  CHECK_EQUAL(place(one, 2, Affinity::kPin).description, std::string("1 node, pinned to 0-1, a quota of 1"));
  try {
    affinity_of("both");
    CHECK(false);
  } catch (const EngineError& error) {
    CHECK(error.code() == ErrorCode::kArgumentInvalid);
  }
}

}  // namespace streamserve
