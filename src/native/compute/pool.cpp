#include "compute/pool.h"

#include <algorithm>
#include <system_error>
#include <thread>

#include "error.h"
#include "kernels/kernels.h"

namespace streamserve {
namespace {

using std::chrono::microseconds;

// How long an idle thread looks for work before it parks: the gap between two decode steps of a busy lane is
// shorter, a parked thread needs some 50 us to come back.
constexpr auto kIdleSpin = microseconds(300);
// How long a core of a fresh step is kept for the thread that will collect it: it then needs no waking at the
// end. Before it collects, it tells others what the last step gave, and whoever wakes may take its core for a
// while.
constexpr auto kCollectorGrace = microseconds(300);
// How long a collector that finds no core spins before it parks.
constexpr auto kCollectorSpin = microseconds(50);
// With one core: what prefill gets between two decode steps, so that it is never starved.
constexpr auto kPrefillTurn = microseconds(2000);
// Of several cores, prefill keeps this share (at least one) while decode steps run.
constexpr uint32_t kPrefillShare = 4;

constexpr uint32_t kMostHeadDim = 256;

int64_t now_ns() { return Clock::now().time_since_epoch().count(); }

// Spins until `ready()`, politely, at most `most` long.
template <typename Ready>
bool spin_until(Clock::duration most, Ready ready) {
  const Clock::time_point end = Clock::now() + most;
  for (;;) {
    for (int i = 0; i < 64; ++i) {
      if (ready()) return true;
      cpu_relax();
    }
    if (Clock::now() >= end) return false;
    std::this_thread::yield();
  }
}

}  // namespace

ComputePool& ComputePool::shared() {
  static ComputePool& pool = *new ComputePool([] {
    size_t floats = 0;
    for (const Kernels* family : kernel_families()) {
      floats = std::max(floats, family->attention_scratch_floats(kMostHeadDim));
    }
    return floats;
  }());
  return pool;
}

ComputePool::~ComputePool() {
  stopping_.store(true);
  calls_.fetch_add(1);
  calls_.notify_all();
  while (exited_.load() < started_.load()) std::this_thread::yield();
}

void ComputePool::set_cores(uint32_t cores) {
  const std::lock_guard guard(lock_);
  while (started_.load() < cores) {
    try {
      // Allocated here: on the new thread a failure would end the process.
      std::thread thread(
          [this, number = started_.load() + 1, memory = aligned_array<float>(scratch_floats_)] {
            thread_main({{memory.get(), scratch_floats_}, number});
          });
      handles_.push_back(thread.native_handle());
      thread.detach();
    } catch (const std::system_error&) {
      throw EngineError(ErrorCode::kOutOfMemory, "The system grants no more than " +
                                                     std::to_string(started_.load()) +
                                                     " compute threads; set engine.threads lower.");
    }
    started_.fetch_add(1);
  }
  cores_.store(cores, std::memory_order_relaxed);
  rebalance();
}

bool ComputePool::set_placement(std::span<const uint32_t> cpus) {
  const std::lock_guard guard(lock_);
  return pin_threads(handles_, cpus, process_topology());
}

void ComputePool::submit(const std::shared_ptr<Task>& task) {
  const std::lock_guard guard(lock_);
  running_.push_back(task);
  // A change is noted for all that run; one that comes while both roles compute already is not a change.
  if (sharing_) task->shared_since_ns_ = now_ns();
  rebalance();
}

void ComputePool::collect(const std::shared_ptr<Task>& task, ThreadScratch scratch) {
  while (!task->done()) {
    const uint32_t seen = task->signal_.load();
    bool inside = false;
    {
      const std::lock_guard guard(lock_);
      inside = join(*task);
      if (inside) task->collector_inside_ = true;
    }
    if (inside) {
      do {
        task->work(scratch, [&] { return should_leave(*task, true); });
      } while (!leave(*task, true));
      continue;
    }
    const auto changed = [&] {
      return task->signal_.load(std::memory_order_relaxed) != seen || task->done();
    };
    if (!spin_until(kCollectorSpin, changed)) task->signal_.wait(seen);
  }
  const std::lock_guard guard(lock_);
  end_sharing(*task, task->ended_ns_);
}

void ComputePool::thread_main(ThreadScratch scratch) {
  while (!stopping_.load()) {
    const uint32_t seen = calls_.load();
    bool reserved = false;
    if (const std::shared_ptr<Task> task = join_any(scratch.thread, reserved)) {
      do {
        task->work(scratch, [&] { return should_leave(*task, false); });
      } while (!leave(*task, false));
      continue;
    }
    const auto called = [&] { return calls_.load(std::memory_order_relaxed) != seen; };
    if (reserved) {
      spin_until(microseconds(5), called);
    } else if (!spin_until(kIdleSpin, called)) {
      calls_.wait(seen);
    }
  }
  exited_.fetch_add(1);
}

// `reserved` says that a task has a core left, kept for its collector.
std::shared_ptr<Task> ComputePool::join_any(uint32_t thread, bool& reserved) {
  const std::lock_guard guard(lock_);
  for (const std::shared_ptr<Task>& task : running_) {
    const uint32_t threads = task->threads_.load(std::memory_order_relaxed);
    const uint32_t lease = task->lease_.load(std::memory_order_relaxed);
    if (threads >= lease || busy_ >= cores() || task->done() || thread > task->last_thread_) {
      continue;
    }
    if (threads + 1 == lease && !task->collector_inside_ && cores() > 1 &&
        Clock::now() - task->submitted() < kCollectorGrace) {
      // Some thread must watch the reservation; one that computes there does.
      reserved = reserved || threads == 0;
      continue;
    }
    if (join(*task)) return task;
  }
  return nullptr;
}

bool ComputePool::join(Task& task) {
  if (task.done() || busy_ >= cores() || task.threads_.load() >= task.lease_.load()) return false;
  task.threads_.fetch_add(1);
  ++busy_;
  return true;
}

bool ComputePool::should_leave(Task& task, bool collector) {
  const uint32_t threads = task.threads_.load(std::memory_order_relaxed);
  const uint32_t lease = task.lease_.load(std::memory_order_relaxed);
  if (threads < lease && !task.grown_.load(std::memory_order_relaxed) &&
      Clock::now() - task.submitted() > kCollectorGrace && !task.grown_.exchange(true)) {
    wake(1);
  }
  const int64_t turn = prefill_turn_ends_ns_.load(std::memory_order_relaxed);
  if (turn != 0 && task.role() == LaneRole::kPrefill && now_ns() > turn) {
    const std::lock_guard guard(lock_);
    prefill_turn_ends_ns_.store(0);
    rebalance();
  }
  if (threads <= lease) return false;
  // A thread of the pool is the one to go, unless there is none.
  return !collector || threads == 1 || lease == 0;
}

bool ComputePool::leave(Task& task, bool collector) {
  const std::lock_guard guard(lock_);
  const bool done = task.done();
  if (!done && task.threads_.load() <= task.lease_.load()) return false;
  task.threads_.fetch_sub(1);
  --busy_;
  if (collector) task.collector_inside_ = false;
  if (done) {
    const auto at = std::find_if(running_.begin(), running_.end(),
                                 [&](const auto& other) { return other.get() == &task; });
    if (at != running_.end()) {
      end_sharing(task, task.ended_ns_);
      running_.erase(at);
      task.lease_.store(0);
      task.signal_.fetch_add(1);
      task.signal_.notify_all();
      if (task.role() == LaneRole::kDecode && cores() == 1) {
        prefill_turn_ends_ns_.store(now_ns() + std::chrono::nanoseconds(kPrefillTurn).count());
      }
    }
  }
  rebalance();
  return true;
}

// Grants cores anew; called under the lock whenever a task comes, ends or gives a core back.
void ComputePool::rebalance() {
  const uint32_t cores = this->cores();
  const bool decode = std::any_of(running_.begin(), running_.end(),
                                  [](const auto& task) { return task->role() == LaneRole::kDecode; });
  const bool prefill = std::any_of(running_.begin(), running_.end(),
                                   [](const auto& task) { return task->role() == LaneRole::kPrefill; });
  uint32_t for_prefill = prefill ? cores : 0;
  if (decode && prefill) {
    for_prefill = cores > 1 ? std::max(1u, cores / kPrefillShare) : 0;
    const int64_t turn = prefill_turn_ends_ns_.load();
    if (cores == 1 && turn != 0 && now_ns() < turn) for_prefill = 1;
  }
  note_sharing(decode && prefill);
  share_out(LaneRole::kDecode, cores - for_prefill);
  share_out(LaneRole::kPrefill, for_prefill);
}

// Whether both roles compute from now on: a step's time beside the other role is counted with it.
void ComputePool::note_sharing(bool both) {
  if (both == sharing_) return;
  sharing_ = both;
  const int64_t now = now_ns();
  for (const auto& task : running_) {
    if (!both) {
      end_sharing(*task, now);
    } else if (!task->done()) {
      task->shared_since_ns_ = now;
    }
  }
}

void ComputePool::end_sharing(Task& task, int64_t at) {
  if (task.shared_since_ns_ == 0) return;
  task.shared_ns_ += std::max<int64_t>(0, at - task.shared_since_ns_);
  task.shared_since_ns_ = 0;
}

// Splits `cores` over the running tasks of a role, the oldest first.
void ComputePool::share_out(LaneRole role, uint32_t cores) {
  uint32_t tasks = 0;
  for (const auto& task : running_) tasks += task->role() == role && !task->done();
  for (const auto& task : running_) {
    if (task->role() != role || task->done()) continue;
    const uint32_t lease = (cores + tasks - 1) / tasks;
    cores -= lease;
    --tasks;
    task->lease_.store(lease);
    const uint32_t threads = task->threads_.load();
    if (threads < lease && busy_ < this->cores()) {
      task->signal_.fetch_add(1);
      task->signal_.notify_all();
      // One core is left to a collector still to come; a thread wakes all the same where none computes yet.
      const uint32_t missing = lease - threads;
      wake(task->collector_inside_ ? missing : std::max(missing - 1, threads == 0 ? 1u : 0u));
    }
  }
}

void ComputePool::wake(uint32_t threads) {
  if (threads == 0) return;
  calls_.fetch_add(1);
  if (threads == 1) {
    calls_.notify_one();
  } else {
    calls_.notify_all();
  }
}

}  // namespace streamserve
