#include "model/pack_job.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

namespace streamserve {

void run_pack_jobs(const ModelSource& source, const Kernels& kernels, std::vector<PackJob> jobs,
                   uint8_t* packed, uint32_t threads) {
  std::sort(jobs.begin(), jobs.end(),
            [](const PackJob& a, const PackJob& b) { return *a.tensor->bytes > *b.tensor->bytes; });
  std::atomic<size_t> next{0};
  std::mutex lock;
  std::exception_ptr failure;
  const auto work = [&] {
    try {
      std::vector<uint8_t> raw;
      for (size_t i; (i = next.fetch_add(1)) < jobs.size();) {
        const PackJob& job = jobs[i];
        raw.resize(*job.tensor->bytes);
        source.read(*job.tensor, raw);
        PackedMatrix& target = *job.target;
        const uint32_t tiles = (target.rows + kTileRows - 1) / kTileRows;
        uint8_t* out = packed + job.packed_offset;
        kernels.pack(job.format, raw.data(), target.packing, target.rows, target.cols, 0, tiles, out);
        target.data = out;
      }
    } catch (...) {
      const std::lock_guard guard(lock);
      if (!failure) failure = std::current_exception();
      next.store(jobs.size());
    }
  };
  std::vector<std::thread> others;
  others.reserve(threads);
  try {
    for (uint32_t t = 1; t < threads && t < jobs.size(); ++t) others.emplace_back(work);
  } catch (const std::exception&) {
    // The system lacks threads or memory for them: fewer do the same work.
  }
  work();
  for (std::thread& other : others) other.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace streamserve
