#include "compute/task.h"

#include <algorithm>

namespace streamserve {

namespace {

int64_t now_ns() { return Clock::now().time_since_epoch().count(); }

}  // namespace

Task::Task(uint32_t regions, bool timed)
    : left_(std::make_unique<std::atomic<uint32_t>[]>(regions)), times_(timed ? regions : 0) {
  chunks_.reserve(regions);
}

void Task::reset(Program& program, LaneRole role, uint32_t last_thread) {
  program_ = &program;
  role_ = role;
  last_thread_ = last_thread;
  const std::span<const uint32_t> regions = program.regions();
  chunks_.assign(regions.begin(), regions.end());
  region_count_ = static_cast<uint32_t>(chunks_.size());
  for (uint32_t r = 0; r < region_count_; ++r) left_[r].store(chunks_[r], std::memory_order_relaxed);
  started_ns_.store(0, std::memory_order_relaxed);
  collector_inside_ = false;
  shared_ns_ = 0;
  shared_since_ns_ = 0;
  grown_.store(false, std::memory_order_relaxed);
  submitted_ = Clock::now();
  ticket_.store(ticket(0, 0), std::memory_order_release);
}

void Task::end(uint32_t region) {
  if (!times_.empty()) return end_timed(region);
  program_->finish(region);
  publish(region + 1, region + 1 < region_count_ ? 0 : now_ns());
}

// A region begins where the one before ended, the first where the task started: nothing lies between.
void Task::end_timed(uint32_t region) {
  const int64_t began = region == 0 ? started_ns_.load() : region_began_ns_;
  const int64_t ran = now_ns();
  program_->finish(region);
  const int64_t finished = now_ns();
  times_[region] = {ran - began, finished - ran};
  region_began_ns_ = finished;
  publish(region + 1, finished);
}

void Task::publish(uint32_t region, int64_t now_ns) {
  if (region >= region_count_) ended_ns_ = now_ns;
  ticket_.store(ticket(region, 0), std::memory_order_release);
}

double Task::compute_ms() const { return static_cast<double>(ended_ns_ - started_ns_.load()) * 1e-6; }

double Task::wait_ms() const {
  return static_cast<double>(started_ns_.load() - submitted_.time_since_epoch().count()) * 1e-6;
}

}  // namespace streamserve
