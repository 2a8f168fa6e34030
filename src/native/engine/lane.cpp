#include "engine/lane.h"

#include <algorithm>
#include <string>
#include <thread>

#include "engine/engine.h"
#include "error.h"

namespace streamserve {
namespace {

[[noreturn]] void invalid(const std::string& what) { throw EngineError(ErrorCode::kArgumentInvalid, what); }

}  // namespace

Lane::Lane(std::shared_ptr<Engine> engine, const LaneOptions& options)
    : engine_(std::move(engine)),
      options_(options),
      forward_(engine_->model(), engine_->pool(), options.max_batch_tokens),
      scratch_(aligned_array<float>(ComputePool::shared().scratch_floats())) {
  for (std::shared_ptr<Task>& task : tasks_) {
    task = std::make_shared<Task>(forward_.most_regions(), options.profile);
  }
  if (options.profile) forward_.profile_steps();
  batch_.rows.reserve(options.max_rows);
  growth_.reserve(options.max_rows);
}

Lane::~Lane() { close(); }

void Lane::check_open() const {
  if (closed_) {
    throw EngineError(ErrorCode::kStaleHandle, "Lane " + std::to_string(options_.lane) + " has been closed.");
  }
}

void Lane::check_tokens(std::span<const uint32_t> tokens) const {
  const uint32_t vocabulary = engine_->model().config().vocabulary;
  for (const uint32_t token : tokens) {
    if (token >= vocabulary) {
      invalid("Token " + std::to_string(token) + " is outside the vocabulary of " +
              std::to_string(vocabulary) + ".");
    }
  }
}

SequenceHandle Lane::create(std::span<const uint32_t> prompt, uint32_t output_from, SamplingParams sampling,
                            uint32_t& cached_tokens, const ChainHash& salt, uint32_t unsure) {
  const std::lock_guard guard(lock_);
  check_open();
  if (prompt.empty()) invalid("A sequence needs a prompt of at least one token.");
  if (prompt.size() > engine_->context_tokens()) {
    invalid("The prompt has " + std::to_string(prompt.size()) + " tokens; the context holds " +
            std::to_string(engine_->context_tokens()) + ".");
  }
  if (output_from > prompt.size()) invalid("outputFrom lies beyond the prompt.");
  check_tokens(prompt);
  const uint32_t vocabulary = engine_->model().config().vocabulary;
  if (const char* problem = sampling.problem(vocabulary)) invalid(std::string("Sampling: ") + problem + ".");
  Sampler sampler(std::move(sampling));
  sampler.add_prompt(prompt.first(output_from));
  for (const uint32_t token : prompt.subspan(output_from)) sampler.add_output(token);
  return engine_->pool().create(options_.lane, prompt, std::move(sampler), cached_tokens, salt, unsure);
}

void Lane::release(SequenceHandle handle) {
  const std::lock_guard guard(lock_);
  if (!closed_) engine_->pool().release(options_.lane, handle);
}

void Lane::hand_over(SequenceHandle handle, uint32_t lane) {
  const std::lock_guard guard(lock_);
  check_open();
  engine_->pool().hand_over(options_.lane, handle, lane);
}

void Lane::adopt(SequenceHandle handle) {
  const std::lock_guard guard(lock_);
  check_open();
  engine_->pool().adopt(options_.lane, handle);
}

void Lane::release_stranded() {
  const std::lock_guard guard(lock_);
  check_open();
  engine_->pool().release_stranded(options_.lane);
}

void Lane::cut(SequenceHandle handle, uint32_t tokens) {
  const std::lock_guard guard(lock_);
  check_open();
  engine_->pool().cut(options_.lane, handle, tokens);
}

uint32_t Lane::length(SequenceHandle handle) {
  const std::lock_guard guard(lock_);
  check_open();
  const Sequence& sequence = engine_->pool().get(options_.lane, handle);
  if (sequence.in_step) {
    for (const BatchRow& row : batch_.rows) {
      if (row.sequence == &sequence) return row.base;
    }
  }
  return static_cast<uint32_t>(sequence.tokens.size());
}

void Lane::submit(std::span<const RowRequest> rows) {
  const std::lock_guard guard(lock_);
  check_open();
  if (running_task_) invalid("A step is running already; collect it first.");
  if (rows.empty() || rows.size() > options_.max_rows) {
    invalid("A step of " + std::to_string(rows.size()) + " rows; this lane takes 1 to " +
            std::to_string(options_.max_rows) + ".");
  }
  batch_.rows.clear();
  batch_.tokens = 0;
  batch_.logits = 0;
  growth_.clear();
  for (const RowRequest& row : rows) {
    Sequence& sequence = engine_->pool().get(options_.lane, row.sequence);
    for (const BatchRow& other : batch_.rows) {
      if (other.sequence == &sequence) invalid("A sequence is in the step twice.");
    }
    const uint32_t base = static_cast<uint32_t>(sequence.tokens.size());
    if (row.tokens.empty()) invalid("A row of the step has no tokens.");
    if (row.drafts >= row.tokens.size())
      invalid("A row has as many drafts as tokens; one must precede them.");
    if (row.drafts > 0 && !row.sample) invalid("A row has drafts but draws nothing.");
    if (row.tokens.size() > options_.max_batch_tokens - batch_.tokens) {
      invalid("The step has more than the " + std::to_string(options_.max_batch_tokens) +
              " new tokens that this lane takes.");
    }
    if (row.tokens.size() > engine_->context_tokens() - std::min(base, engine_->context_tokens())) {
      invalid("A row would grow to " + std::to_string(base + row.tokens.size()) +
              " tokens; the context holds " + std::to_string(engine_->context_tokens()) + ".");
    }
    check_tokens(row.tokens);
    const uint32_t tokens = static_cast<uint32_t>(row.tokens.size());
    const uint32_t logits = row.sample ? row.drafts + 1 : 0;
    BatchRow& added = batch_.rows.emplace_back(
        BatchRow{&sequence, base, tokens, row.drafts, logits, batch_.tokens, batch_.logits});
    added.logprobs = sequence.sampler->params().logprobs;
    added.draws.reserve(logits);
    batch_.tokens += tokens;
    batch_.logits += logits;
    growth_.push_back({&sequence, tokens});
  }
  forward_.prepare(batch_, ComputePool::shared().cores(), ComputePool::shared().threads());
  engine_->pool().grow(growth_);
  for (size_t r = 0; r < rows.size(); ++r) {
    std::vector<uint32_t>& tokens = batch_.rows[r].sequence->tokens;
    tokens.insert(tokens.end(), rows[r].tokens.begin(), rows[r].tokens.end());
  }
  start();
}

void Lane::start() {
  ComputePool& pool = ComputePool::shared();
  const std::shared_ptr<Task>& task = tasks_[next_task_++ % tasks_.size()];
  while (!task->idle()) std::this_thread::yield();
  task->reset(forward_, options_.role, static_cast<uint32_t>(forward_.samplers()) - 1);
  pool.submit(task);
  running_task_ = task;
  running_.store(task.get());
}

void Lane::wait() {
  ComputePool::shared().collect(running_task_, {{scratch_.get(), ComputePool::shared().scratch_floats()}, 0});
}

StepOutcome Lane::collect() {
  const std::lock_guard guard(lock_);
  check_open();
  if (!running_task_) invalid("No step is running.");
  // May throw: before the step is settled.
  StepOutcome outcome;
  outcome.rows.reserve(batch_.rows.size());
  wait();
  const std::shared_ptr<Task> task = std::move(running_task_);
  running_task_ = nullptr;
  running_.store(nullptr);
  Failure failure = Failure::kNone;
  for (const BatchRow& row : batch_.rows) failure = std::max(failure, row.failure);
  for (BatchRow& row : batch_.rows) settle(row, failure != Failure::kNone);
  if (failure == Failure::kOutOfMemory) throw std::bad_alloc();
  if (failure == Failure::kLogitsNotFinite) {
    throw EngineError(ErrorCode::kModelFileInvalid,
                      "The model's weights give logits that are not finite numbers: its file is damaged; "
                      "download it again.");
  }
  outcome.compute_ms = task->compute_ms();
  outcome.wait_ms = task->wait_ms();
  outcome.shared_ms = std::min(task->shared_ms(), task->compute_ms());
  if (options_.profile) profile_ = forward_.profile(*task);
  for (BatchRow& row : batch_.rows)
    outcome.rows.push_back({std::move(row.draws), row.accepted, row.logprobs});
  return outcome;
}

StepProfile Lane::profile() {
  const std::lock_guard guard(lock_);
  check_open();
  if (!options_.profile) invalid("This lane was opened without profiling.");
  if (!profile_) invalid("No step has been collected yet: nothing has been profiled.");
  return *profile_;
}

void Lane::settle(BatchRow& row, bool undo) {
  if (undo) {
    for (const Draw& draw : row.draws) row.sequence->sampler->remove_output(draw.token);
  }
  // Rejected drafts leave the KV.
  row.sequence->tokens.resize(undo ? row.base : row.base + row.tokens - row.drafts + row.accepted);
  engine_->pool().settle(*row.sequence);
}

void Lane::score(std::span<const uint32_t> ids, uint32_t from, std::span<float> out) {
  const uint32_t vocabulary = engine_->model().config().vocabulary;
  if (from >= ids.size() || out.size() != (ids.size() - from) * size_t{vocabulary}) {
    invalid("The array for scores must hold one row of the vocabulary for each id from `from` on.");
  }
  // A prompt of one token shares nothing with the prefix cache, so that every position is computed.
  uint32_t cached = 0;
  const SequenceHandle handle = create(ids.first(1), 1, {}, cached);
  try {
    const std::lock_guard guard(lock_);
    check_open();
    check_tokens(ids);
    if (running_task_) invalid("A step is running already; collect it first.");
    if (ids.size() > engine_->context_tokens()) invalid("There are more ids than the context holds.");
    Sequence& sequence = engine_->pool().get(options_.lane, handle);
    // Bounds the memory that logits take.
    const uint32_t most = std::min(options_.max_batch_tokens, 32u);
    for (uint32_t base = 0; base < ids.size();) {
      const uint32_t tokens = std::min(most, static_cast<uint32_t>(ids.size()) - base);
      const uint32_t logits = base + tokens <= from ? 0 : std::min(tokens, base + tokens - from);
      float* scores =
          logits == 0 ? nullptr : out.data() + (base + tokens - logits - from) * size_t{vocabulary};
      batch_.rows.assign(1, BatchRow{&sequence, base, tokens, 0, logits, 0, 0, scores});
      batch_.tokens = tokens;
      batch_.logits = logits;
      const Growth growth{&sequence, tokens};
      forward_.prepare(batch_, ComputePool::shared().cores(), ComputePool::shared().threads());
      engine_->pool().grow({&growth, 1});
      sequence.tokens.insert(sequence.tokens.end(), ids.begin() + base, ids.begin() + base + tokens);
      start();
      wait();
      running_task_ = nullptr;
      running_.store(nullptr);
      engine_->pool().settle(sequence);
      base += tokens;
    }
  } catch (...) {
    release(handle);
    throw;
  }
  release(handle);
}

void Lane::close() {
  const std::lock_guard guard(lock_);
  if (closed_) return;
  closed_ = true;
  if (running_task_) {
    wait();
    running_task_ = nullptr;
    running_.store(nullptr);
    for (const BatchRow& row : batch_.rows) row.sequence->in_step = false;
  }
  engine_->pool().reclaim(options_.lane);
}

}  // namespace streamserve
