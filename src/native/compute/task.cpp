#include "compute/task.h"

#include <algorithm>

namespace streamserve {

Task::Task(uint32_t regions) : left_(std::make_unique<std::atomic<uint32_t>[]>(regions)) {
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

void Task::publish(uint32_t region) {
  if (region >= region_count_) ended_ns_ = Clock::now().time_since_epoch().count();
  ticket_.store(ticket(region, 0), std::memory_order_release);
}

double Task::compute_ms() const { return static_cast<double>(ended_ns_ - started_ns_.load()) * 1e-6; }

double Task::wait_ms() const {
  return static_cast<double>(started_ns_.load() - submitted_.time_since_epoch().count()) * 1e-6;
}

}  // namespace streamserve
