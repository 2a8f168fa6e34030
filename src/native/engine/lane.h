// One lane's steps: checks a batch, starts it on the compute pool, and settles it when it is collected.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "compute/pool.h"
#include "kv/pool.h"
#include "step/batch.h"
#include "step/forward.h"

namespace streamserve {

class Engine;

struct LaneOptions {
  uint32_t lane = 0;
  LaneRole role = LaneRole::kDecode;
  uint32_t max_rows = 0;
  uint32_t max_batch_tokens = 0;
  // Keeps where the time of each step went.
  bool profile = false;
};

// A row as it is asked for.
struct RowRequest {
  SequenceHandle sequence;
  std::span<const uint32_t> tokens;
  uint32_t drafts = 0;
  bool sample = false;
};

// What came of a row.
struct RowOutcome {
  std::vector<Draw> draws;
  uint32_t accepted = 0;
  int32_t logprobs = -1;  // as the sequence's sampling asks
};

struct StepOutcome {
  std::vector<RowOutcome> rows;
  double compute_ms = 0;
  double wait_ms = 0;
  // Of compute_ms, how long lanes of the other role computed too.
  double shared_ms = 0;
};

// Thread-safe: calls wait for each other, so that one thread may close the lane that another computes on.
class Lane {
 public:
  Lane(std::shared_ptr<Engine> engine, const LaneOptions& options);
  // As close(). Whoever drops the last reference closes first if a step may run: the engine no longer finds a
  // lane that is being destroyed.
  ~Lane();

  const LaneOptions& options() const { return options_; }

  SequenceHandle create(std::span<const uint32_t> prompt, uint32_t output_from, SamplingParams sampling,
                        uint32_t& cached_tokens, const ChainHash& salt = {}, uint32_t unsure = 0);
  void release(SequenceHandle handle);
  void hand_over(SequenceHandle handle, uint32_t lane);
  void adopt(SequenceHandle handle);
  // As KvPool::release_stranded().
  void release_stranded();
  uint32_t length(SequenceHandle handle);
  // As KvPool::cut().
  void cut(SequenceHandle handle, uint32_t tokens);

  // Starts a step. Throws `stale_handle`, `kv_exhausted`, `native_argument_invalid`, `out_of_memory`; then
  // nothing has changed.
  void submit(std::span<const RowRequest> rows);
  // True unless a step is running.
  bool finished() const {
    // Read once: another thread may close the lane meanwhile.
    const Task* task = running_.load();
    return !task || task->done();
  }
  // Waits for the step and gives its outcome. Throws `native_argument_invalid` without a step,
  // `model_file_invalid` when the weights give logits that are not finite,
  // `out_of_memory`: then every sequence is as it was before.
  StepOutcome collect();
  // Where the time of the last step went that collect() gave the outcome of. Throws
  // `native_argument_invalid` when there is none, or for a lane that was opened without `profile`.
  StepProfile profile();

  // Log-probabilities of the whole vocabulary after each of `ids` from index `from` on, by a sequence of its
  // own: `out` holds (ids - from) x vocabulary. For tests and tools.
  void score(std::span<const uint32_t> ids, uint32_t from, std::span<float> out);

  // Waits for a running step and gives back all that the lane owns. Idempotent; later calls throw
  // `stale_handle`.
  void close();

 private:
  void check_open() const;
  void check_tokens(std::span<const uint32_t> tokens) const;
  void start();
  void wait();
  void settle(BatchRow& row, bool undo);

  const std::shared_ptr<Engine> engine_;
  const LaneOptions options_;
  std::mutex lock_;
  bool closed_ = false;
  Forward forward_;
  AlignedArray<float> scratch_;
  Batch batch_;
  std::vector<Growth> growth_;
  std::optional<StepProfile> profile_;
  // A thread may look at a task for a moment after it is done, so steps take turns with several.
  std::array<std::shared_ptr<Task>, 4> tasks_;
  uint32_t next_task_ = 0;
  std::atomic<Task*> running_{nullptr};
  std::shared_ptr<Task> running_task_;
};

}  // namespace streamserve
