// The bytes of packed weights and embeddings: mapped from the cache, or anonymous.
#pragma once

#include <span>
#include <string>

#include "kv/memory.h"
#include "model/pack_job.h"
#include "model/packed_cache.h"

namespace streamserve {

// What there is to pack.
struct PackPlan {
  std::vector<PackJob> jobs;
  size_t packed_bytes = 0;
  const TensorInfo* embedding = nullptr;
};

struct WeightMemoryOptions {
  PackedCacheOptions cache;
  // Copies what the cache holds into anonymous memory in huge pages, instead of mapping it.
  bool copy = false;
  uint32_t threads = 1;
};

// Where the bytes came from.
enum class WeightOrigin { kPacked, kStored, kCache };

class WeightMemory {
 public:
  WeightMemory() = default;
  // Finds the packed weights in the cache, or packs them and keeps them there. Throws the model_* errors or
  // `out_of_memory`; a cache that can't be used is only a notice.
  WeightMemory(const ModelSource& source, const Kernels& kernels, const PackPlan& plan,
               const WeightMemoryOptions& options);

  const uint8_t* packed() const { return packed_.data(); }
  const uint8_t* embedding() const { return embedding_.data(); }
  size_t size() const { return packed_.size() + embedding_.size(); }
  WeightOrigin origin() const { return origin_; }
  const std::string& notice() const { return notice_; }

 private:
  void use(FileMapping mapping, const PackedContents& contents, const WeightMemoryOptions& options);
  // `file`: where the bytes of a packed file begin.
  void point_at(const uint8_t* file, const PackedContents& contents);

  FileMapping mapping_;
  LargeMemory memory_;
  std::span<const uint8_t> packed_;
  std::span<const uint8_t> embedding_;
  WeightOrigin origin_ = WeightOrigin::kPacked;
  std::string notice_;
};

}  // namespace streamserve
