// The compute threads that all lanes of the process share. docs/decisions/compute-pool.md gives the reasons.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "compute/aligned.h"
#include "compute/placement.h"
#include "compute/task.h"

namespace streamserve {

class ComputePool {
 public:
  // The process's pool; never destroyed, since its threads outlive every JavaScript environment.
  static ComputePool& shared();

  explicit ComputePool(size_t scratch_floats) : scratch_floats_(scratch_floats) {}
  // Ends the threads; no task may be running.
  ~ComputePool();
  ComputePool(const ComputePool&) = delete;
  ComputePool& operator=(const ComputePool&) = delete;

  // Cores that tasks may use together; starts threads up to that number. Throws `out_of_memory` when the
  // system grants no more threads.
  void set_cores(uint32_t cores);
  // Pins thread n to `cpus[n - 1]`, or lets all run anywhere if there are none. False when the system
  // refuses.
  bool set_placement(std::span<const uint32_t> cpus);
  uint32_t cores() const { return cores_.load(std::memory_order_relaxed); }

  // Starts the task; returns at once.
  void submit(const std::shared_ptr<Task>& task);
  // Returns when the task is done; the calling thread computes too whenever the task has a core for it.
  void collect(const std::shared_ptr<Task>& task, ThreadScratch scratch);

  // The highest ThreadScratch::thread that may turn up.
  uint32_t threads() const { return started_.load(); }
  // Floats of scratch that a collector must bring.
  size_t scratch_floats() const { return scratch_floats_; }

 private:
  void thread_main(ThreadScratch scratch);
  std::shared_ptr<Task> join_any(uint32_t thread, bool& reserved);
  bool join(Task& task);
  // True when the thread has left; false when it may go on.
  bool leave(Task& task, bool collector);
  bool should_leave(Task& task, bool collector);
  void rebalance();
  void share_out(LaneRole role, uint32_t cores);
  void note_sharing(bool both);
  static void end_sharing(Task& task, int64_t at);
  void wake(uint32_t threads);

  const size_t scratch_floats_;
  std::mutex lock_;
  std::vector<pthread_t> handles_;
  std::vector<std::shared_ptr<Task>> running_;  // in order of submission
  uint32_t busy_ = 0;                           // threads inside tasks
  bool sharing_ = false;                        // tasks of both roles run
  std::atomic<uint32_t> started_{0};            // threads that exist
  std::atomic<uint32_t> cores_{0};
  // Changes when an idle thread may find work; what idle threads wait on.
  std::atomic<uint32_t> calls_{0};
  std::atomic<bool> stopping_{false};
  std::atomic<uint32_t> exited_{0};
  // With one core: until when the prefill steps keep it although a decode step waits. 0: no such turn.
  std::atomic<int64_t> prefill_turn_ends_ns_{0};
};

}  // namespace streamserve
