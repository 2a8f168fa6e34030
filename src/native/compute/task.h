// One program on its way through the compute pool. Threads may join and leave at every chunk, so a step's
// cores can change while it runs; which thread ran a chunk never shows in the result.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "compute/program.h"

namespace streamserve {

// Decode steps lease cores first.
enum class LaneRole : uint8_t { kPrefill, kDecode };

using Clock = std::chrono::steady_clock;

// What a region took, one after the other.
struct RegionTime {
  int64_t chunks_ns = 0;  // from the end of the region before
  int64_t finish_ns = 0;  // Program::finish()
};

class Task {
 public:
  // Room for programs of at most `regions` regions. `timed`: each region's time is kept.
  explicit Task(uint32_t regions, bool timed = false);

  // Readies the task for `program`, which must stay alive until done(). Threads numbered up to `last_thread`
  // may join. Only when idle().
  void reset(Program& program, LaneRole role, uint32_t last_thread);

  // Claims and runs chunks until the program ends or `leave()` is true between two chunks. Called by threads
  // that the pool let in.
  template <typename Leave>
  void work(ThreadScratch scratch, Leave leave);

  bool done() const { return (ticket_.load(std::memory_order_acquire) >> 32) >= region_count_; }
  // True when it may be reset: done, and no thread looks at it any more.
  bool idle() const { return done() && threads_.load(std::memory_order_acquire) == 0; }
  LaneRole role() const { return role_; }
  // Valid once done().
  double compute_ms() const;
  double wait_ms() const;
  // Of compute_ms(), how long lanes of the other role computed too. Valid once ComputePool::collect()
  // returned.
  double shared_ms() const { return static_cast<double>(shared_ns_) * 1e-6; }

  // Of a timed task, once done(): they add up to compute_ms().
  const RegionTime& region_time(uint32_t region) const { return times_[region]; }

  // When the task was readied.
  Clock::time_point submitted() const { return submitted_; }

 private:
  friend class ComputePool;
  static uint64_t ticket(uint32_t region, uint32_t chunk) { return uint64_t{region} << 32 | chunk; }
  void end(uint32_t region);
  void end_timed(uint32_t region);
  void publish(uint32_t region, int64_t now_ns);

  Program* program_ = nullptr;
  LaneRole role_ = LaneRole::kDecode;
  uint32_t last_thread_ = 0;
  uint32_t region_count_ = 0;
  std::vector<uint32_t> chunks_;
  // Chunks of each region that have not ended yet.
  std::unique_ptr<std::atomic<uint32_t>[]> left_;
  // Region in the upper half, next chunk to claim in the lower.
  alignas(64) std::atomic<uint64_t> ticket_{0};
  alignas(64) std::atomic<int64_t> started_ns_{0};
  int64_t ended_ns_ = 0;
  Clock::time_point submitted_{};
  // Empty unless the task is timed. Whoever ends a region writes, and publishes the next one after that.
  std::vector<RegionTime> times_;
  int64_t region_began_ns_ = 0;

  // The pool's book-keeping: written under its lock, read without it as hints.
  std::atomic<uint32_t> lease_{0};    // cores granted
  std::atomic<uint32_t> threads_{0};  // threads let in
  // Changes whenever a collector might get in and when the task is done: what a parked collector waits on.
  std::atomic<uint32_t> signal_{0};
  bool collector_inside_ = false;
  // Time beside steps of the other role: summed up, and since when it goes on (0: it does not). Under the
  // lock.
  int64_t shared_ns_ = 0;
  int64_t shared_since_ns_ = 0;
  std::atomic<bool> grown_{false};  // a thread was woken in place of a collector that did not come
};

// How long a thread looks for the next region before it lets others run: longer than a chunk takes.
inline constexpr uint32_t kSpinsBeforeYield = 512;

inline void cpu_relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace streamserve

#include "compute/task_work.h"
