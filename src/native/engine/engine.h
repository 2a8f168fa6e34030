// One loaded model with its KV pool, and the process-wide table of them.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "compute/placement.h"
#include "engine/lane.h"
#include "kv/pool.h"
#include "model/model.h"

namespace streamserve {

struct EngineOptions {
  std::string path;
  std::string instruction_set;
  uint32_t kv_tokens = 0;
  uint32_t block_tokens = 0;
  // Compute threads over all lanes of the process; 0: one a core that this process may use.
  uint32_t threads = 0;
  // Where they run, and where shared memory lies.
  Affinity affinity = Affinity::kAuto;
  // Context limit; 0: the model's own.
  uint32_t context_tokens = 0;
  bool exact = false;
  // The packed weights' cache; an empty directory: none.
  PackedCacheOptions cache;
  // Copies cached weights into memory of this process instead of mapping them.
  bool copy_weights = false;
  KvFormat kv = KvFormat::kFloat16;
  // Where cached prefixes go that give way.
  PrefixTierOptions tier{};
};

class Engine : public std::enable_shared_from_this<Engine> {
 public:
  // Throws what Model throws, and `native_argument_invalid`.
  explicit Engine(const EngineOptions& options);

  const Model& model() const { return model_; }
  KvPool& pool() { return pool_; }
  uint32_t context_tokens() const { return context_tokens_; }
  const Placement& placement() const { return placement_; }
  // What people should know of how it was opened; empty: nothing.
  const std::string& notice() const { return notice_; }

  // A lane with index `options.lane`. What an earlier lane of that index owned, or was handed, is reclaimed
  // first; if that one is still open it is closed.
  std::shared_ptr<Lane> open_lane(const LaneOptions& options);

 private:
  Placement placement_;
  std::string notice_;
  const Model model_;
  const uint32_t context_tokens_;
  KvPool pool_;
  std::mutex lock_;
  std::map<uint32_t, std::weak_ptr<Lane>> lanes_;
};

// Engines by number. Lives as long as the process.
class EngineTable {
 public:
  static EngineTable& shared();

  uint32_t open(const EngineOptions& options, std::shared_ptr<Engine>& engine);
  // Throws `native_argument_invalid` when there is none.
  std::shared_ptr<Engine> find(uint32_t id);
  // Its memory goes when its last lane is closed. Unknown numbers are ignored.
  void close(uint32_t id);

 private:
  std::mutex lock_;
  uint32_t next_ = 1;
  std::map<uint32_t, std::shared_ptr<Engine>> engines_;
};

}  // namespace streamserve
