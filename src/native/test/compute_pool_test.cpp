#include <atomic>
#include <thread>
#include <vector>

#include "compute/pool.h"
#include "unit_test.h"

namespace streamserve {
namespace {

// Each region's chunks check that the region before is complete, and count themselves.
class CountingProgram final : public Program {
 public:
  CountingProgram(uint32_t regions, uint32_t chunks) : chunks_(regions, chunks), done_(regions) {}

  std::span<const uint32_t> regions() const override { return chunks_; }
  void run(uint32_t region, uint32_t, ThreadScratch scratch) noexcept override {
    const uint32_t inside = running.fetch_add(1) + 1;
    uint32_t most = most_running.load();
    while (inside > most && !most_running.compare_exchange_weak(most, inside)) {
    }
    if (region > 0 && !finished_[region - 1]) wrong.store(true);
    if (finished_[region]) wrong.store(true);
    if (!scratch.floats.empty()) scratch.floats[0] = 1;
    done_[region].fetch_add(1);
    running.fetch_sub(1);
  }
  void finish(uint32_t region) noexcept override {
    if (done_[region].load() != chunks_[region]) wrong.store(true);
    finished_[region] = true;
  }

  bool complete() const { return !wrong.load() && finished_[chunks_.size() - 1]; }
  static inline std::atomic<uint32_t> running{0};
  static inline std::atomic<uint32_t> most_running{0};
  std::atomic<bool> wrong{false};

 private:
  std::vector<uint32_t> chunks_;
  std::vector<std::atomic<uint32_t>> done_;
  // Written by finish(), read by later chunks: a race would show under ThreadSanitizer.
  bool finished_[64] = {};
};

constexpr size_t kScratchFloats = 16;

void run_lane(ComputePool& pool, LaneRole role, uint32_t steps, bool collects) {
  const AlignedArray<float> memory = aligned_array<float>(kScratchFloats);
  for (uint32_t step = 0; step < steps; ++step) {
    CountingProgram program(1 + step % 20, 1 + step % 7);
    const auto task = std::make_shared<Task>(64);
    task->reset(program, role, 64);
    pool.submit(task);
    while (!collects && !task->done()) std::this_thread::yield();
    pool.collect(task, {{memory.get(), kScratchFloats}, 0});
    CHECK(program.complete());
    CHECK(task->compute_ms() >= 0);
    CHECK(task->wait_ms() >= 0);
    CHECK(task->shared_ms() >= 0);
    while (!task->idle()) std::this_thread::yield();
  }
}

// A prefill step with work for a minute, which shrinks to nothing once a decode step is done.
class LongProgram final : public Program {
 public:
  std::span<const uint32_t> regions() const override { return chunks_; }
  void run(uint32_t, uint32_t, ThreadScratch) noexcept override {
    started.store(true);
    if (decode_done.load()) {
      after_decode.store(true);
      return;
    }
    const Clock::time_point end = Clock::now() + std::chrono::microseconds(20);
    while (Clock::now() < end) cpu_relax();
  }
  void finish(uint32_t) noexcept override {}

  std::atomic<bool> started{false};
  std::atomic<bool> decode_done{false};
  std::atomic<bool> after_decode{false};

 private:
  const std::vector<uint32_t> chunks_ = {3'000'000};
};

}  // namespace

UNIT_TEST(compute_pool_runs_regions_in_order_for_one_lane) {
  for (const uint32_t cores : {1u, 2u, 3u}) {
    ComputePool pool(kScratchFloats);
    pool.set_cores(cores);
    run_lane(pool, LaneRole::kDecode, 300, true);
  }
}

UNIT_TEST(compute_pool_finishes_steps_that_nobody_collects) {
  for (const uint32_t cores : {1u, 2u}) {
    ComputePool pool(kScratchFloats);
    pool.set_cores(cores);
    run_lane(pool, LaneRole::kPrefill, 50, false);
  }
}

UNIT_TEST(compute_pool_shares_cores_between_lanes_and_never_runs_more_than_it_has) {
  for (const uint32_t cores : {1u, 2u, 3u}) {
    CountingProgram::most_running = 0;
    ComputePool pool(kScratchFloats);
    pool.set_cores(cores);
    std::vector<std::thread> lanes;
    std::atomic<uint32_t> failures{0};
    for (uint32_t lane = 0; lane < 4; ++lane) {
      lanes.emplace_back([&pool, &failures, lane] {
        try {
          run_lane(pool, lane % 2 ? LaneRole::kDecode : LaneRole::kPrefill, 150, lane < 3);
        } catch (const std::exception&) {
          failures.fetch_add(1);
        }
      });
    }
    for (std::thread& lane : lanes) lane.join();
    CHECK_EQUAL(failures.load(), 0u);
    CHECK(CountingProgram::most_running.load() <= cores);
  }
}

UNIT_TEST(compute_pool_gives_decode_steps_cores_that_a_prefill_step_holds) {
  for (const uint32_t cores : {1u, 2u, 3u}) {
    ComputePool pool(kScratchFloats);
    pool.set_cores(cores);
    LongProgram program;
    const auto task = std::make_shared<Task>(64);
    task->reset(program, LaneRole::kPrefill, 64);
    pool.submit(task);
    std::thread prefill([&pool, &task] {
      const AlignedArray<float> memory = aligned_array<float>(kScratchFloats);
      pool.collect(task, {{memory.get(), kScratchFloats}, 0});
    });
    while (!program.started.load()) std::this_thread::yield();
    run_lane(pool, LaneRole::kDecode, 5, true);
    program.decode_done.store(true);
    prefill.join();
    // The decode steps ran beside it.
    CHECK(task->shared_ms() > 0);
    // The prefill step was not done first, and got its cores back.
    CHECK(program.after_decode.load());
    CHECK(task->done());
    while (!task->idle()) std::this_thread::yield();
  }
}

UNIT_TEST(compute_pool_takes_more_cores_while_lanes_run) {
  ComputePool pool(kScratchFloats);
  pool.set_cores(1);
  std::thread lane([&pool] { run_lane(pool, LaneRole::kDecode, 200, true); });
  for (uint32_t cores = 1; cores <= 4; ++cores) pool.set_cores(cores);
  pool.set_cores(2);
  lane.join();
}

}  // namespace streamserve
