// Memory that runs out, at every single allocation: an error, nothing lost, and the same tokens afterwards.
#include <array>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <new>
#include <optional>
#include <span>
#include <vector>

#include "error.h"
#include "tiny_engine.h"
#include "unit_test.h"

namespace {

// How many allocations still succeed; negative: all do. The one after them fails, whichever thread asks.
std::atomic<int64_t> left{-1};
std::atomic<bool> failed{false};

void* allocate(size_t bytes, size_t alignment) {
  if (left.load(std::memory_order_relaxed) >= 0 && left.fetch_sub(1) == 0) {
    failed.store(true);
    throw std::bad_alloc();
  }
  const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, rounded > 0 ? rounded : alignment);
  if (!memory) throw std::bad_alloc();
  return memory;
}

}  // namespace

// The whole program's; others come down to these.
void* operator new(size_t bytes) { return allocate(bytes, __STDCPP_DEFAULT_NEW_ALIGNMENT__); }
void* operator new(size_t bytes, std::align_val_t alignment) {
  return allocate(bytes, static_cast<size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }

namespace streamserve::test {
namespace {

// Calls anew what failed for want of memory. Any other exception passes.
template <typename Call>
auto in_spite(const Call& call) {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    CHECK(failed.load());
  } catch (const EngineError& error) {
    if (error.code() != ErrorCode::kOutOfMemory || !failed.load()) throw;
  }
  return call();
}

// Runs `work` with the first, second, third ... allocation failing, until it needs no more. How many failed.
template <typename Work>
int with_each_failure(const Work& work) {
  for (int count = 0;; ++count) {
    failed.store(false);
    left.store(count);
    try {
      work();
    } catch (...) {
      left.store(-1);
      throw;
    }
    left.store(-1);
    if (!failed.load()) return count;
  }
}

SamplingParams sampling() {
  SamplingParams how;
  how.temperature = 1;
  how.top_p = 0.95F;
  how.repetition_penalty = 1.1F;
  how.seed = 7;
  how.logit_bias = {{3, 1.5F}};
  how.stop_ids = {95};
  how.logprobs = 4;
  return how;
}

struct Drawn {
  std::array<uint32_t, 8> tokens{};
  size_t count = 0;
};

// A prompt, a verification and plain steps, beside another sequence.
Drawn tokens_of(Lane& lane, std::span<const uint32_t> prompt) {
  const std::span<const uint32_t> other = prompt.first(5);
  uint32_t cached = 0;
  const SequenceHandle first =
      in_spite([&] { return lane.create(prompt, static_cast<uint32_t>(prompt.size()), sampling(), cached); });
  uint32_t none = 0;
  const SequenceHandle second = in_spite([&] { return lane.create(other, 5, sampling(), none); });
  Drawn drawn;
  const auto step = [&](std::span<const RowRequest> rows) {
    in_spite([&] { lane.submit(rows); });
    std::optional<StepOutcome> outcome;
    try {
      outcome = lane.collect();
    } catch (const std::bad_alloc&) {
      // Either the step is still to be collected, or it has been undone and may be asked for again.
      CHECK(failed.load());
      try {
        outcome = lane.collect();
      } catch (const EngineError& error) {
        CHECK(error.code() == ErrorCode::kArgumentInvalid);
        lane.submit(rows);
        outcome = lane.collect();
      }
    }
    for (const Draw& draw : outcome->rows[0].draws) drawn.tokens[drawn.count++] = draw.token;
  };
  const RowRequest beginning[] = {{first, prompt.subspan(cached), 0, true},
                                  {second, other.subspan(none), 0, true}};
  step(beginning);
  for (const uint32_t drafts : {3U, 0U, 0U}) {
    const uint32_t tokens[] = {drawn.tokens[drawn.count - 1], 1, 2, 3};
    const RowRequest row{first, std::span(tokens).first(1 + drafts), drafts, true};
    step({&row, 1});
  }
  lane.release(first);
  lane.release(second);
  return drawn;
}

}  // namespace

UNIT_TEST(allocation_that_fails_while_a_model_is_opened_is_an_error) {
  // Threads that exist already are not started again.
  { const Engine warm(tiny_engine(tiny_model("qwen3moe-q4_1"))); }
  for (const char* model : {"qwen3moe-q4_1", "gemma3-q4_1", "phi3"}) {
    const EngineOptions options = tiny_engine(tiny_model(model));
    const int failures = with_each_failure([&] {
      const auto engine = in_spite([&] { return std::make_shared<Engine>(options); });
      const auto lane = in_spite([&] { return engine->open_lane({0, LaneRole::kDecode, 4, 64}); });
      lane->close();
    });
    CHECK(failures > 50);
  }
}

UNIT_TEST(allocation_that_fails_in_a_step_leaves_its_sequences_as_they_were) {
  const std::vector<uint32_t> prompt = some_ids(45);
  for (const char* model : {"llama", "qwen3moe-q4_1", "gemma3-q4_1"}) {
    const auto engine = std::make_shared<Engine>(tiny_engine(tiny_model(model)));
    const auto whole = engine->open_lane({0, LaneRole::kDecode, 4, 64});
    const Drawn truth = tokens_of(*whole, prompt);
    whole->close();
    const int failures = with_each_failure([&] {
      // A new lane each time, since an old one has all the memory that it needs.
      const auto lane = in_spite([&] { return engine->open_lane({0, LaneRole::kDecode, 4, 64}); });
      const Drawn drawn = tokens_of(*lane, prompt);
      CHECK_EQUAL(drawn.count, truth.count);
      CHECK(drawn.tokens == truth.tokens);
      CHECK_EQUAL(engine->pool().counts().used, 0U);
      lane->close();
    });
    CHECK(failures > 20);
    CHECK_EQUAL(engine->pool().counts().sequences, 0U);
  }
}

}  // namespace streamserve::test
