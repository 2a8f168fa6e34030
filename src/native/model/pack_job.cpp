#include "model/pack_job.h"

#include <algorithm>
#include <atomic>

#include "model/crew.h"

namespace streamserve {

void run_pack_jobs(const ModelSource& source, const Kernels& kernels, const std::vector<PackJob>& jobs,
                   uint8_t* packed, uint32_t threads) {
  std::vector<const PackJob*> order;
  for (const PackJob& job : jobs) order.push_back(&job);
  std::sort(order.begin(), order.end(),
            [](const PackJob* a, const PackJob* b) { return *a->tensor->bytes > *b->tensor->bytes; });
  std::atomic<size_t> next{0};
  with_crew(std::min<size_t>(threads, order.size()), [&] {
    std::vector<uint8_t> raw;
    try {
      for (size_t i; (i = next.fetch_add(1)) < order.size();) {
        const PackJob& job = *order[i];
        raw.resize(*job.tensor->bytes);
        source.read(*job.tensor, raw);
        const size_t row_bytes = raw.size() / (job.tensor->shape[1] * job.tensor->shape[2]);
        for (const PackPart& part : job.parts) {
          const PackedMatrix& target = *part.target;
          const uint32_t tiles = (target.rows + kTileRows - 1) / kTileRows;
          kernels.pack(job.format, raw.data() + part.first_row * row_bytes, target.packing, target.rows,
                       target.cols, 0, tiles, packed + part.packed_offset);
        }
      }
    } catch (...) {
      next.store(order.size());
      throw;
    }
  });
}

}  // namespace streamserve
