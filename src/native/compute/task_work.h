// The inner loop of a task; included by task.h.
#pragma once

#include <thread>

namespace streamserve {

template <typename Leave>
void Task::work(ThreadScratch scratch, Leave leave) {
  uint32_t spins = 0;
  while (!leave()) {
    uint64_t seen = ticket_.load(std::memory_order_acquire);
    uint32_t region = static_cast<uint32_t>(seen >> 32);
    if (region >= region_count_) return;
    if (static_cast<uint32_t>(seen) >= chunks_[region]) {
      // Others run the region's last chunks.
      if (++spins % kSpinsBeforeYield == 0) {
        std::this_thread::yield();
      } else {
        cpu_relax();
      }
      continue;
    }
    seen = ticket_.fetch_add(1, std::memory_order_acq_rel);
    region = static_cast<uint32_t>(seen >> 32);
    const uint32_t chunk = static_cast<uint32_t>(seen);
    if (region >= region_count_) return;
    if (chunk >= chunks_[region]) continue;
    spins = 0;
    if (region == 0 && chunk == 0) started_ns_.store(Clock::now().time_since_epoch().count());
    program_->run(region, chunk, scratch);
    if (left_[region].fetch_sub(1, std::memory_order_acq_rel) == 1) {
      end(region);
    }
  }
}

}  // namespace streamserve
