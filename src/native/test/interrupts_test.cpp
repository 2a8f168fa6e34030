// Steps that something comes in between of: a lane that is closed, opened anew or dropped with a step under
// way, sequences released in it, and signals.
#include <sys/time.h>

#include <atomic>
#include <csignal>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "error.h"
#include "tiny_engine.h"
#include "unit_test.h"

namespace streamserve::test {
namespace {

constexpr uint32_t kTokens = 64;

struct Running {
  std::shared_ptr<Lane> lane;
  SequenceHandle handle;
  std::vector<uint32_t> ids;
};

// A lane with a step of a prompt under way.
Running start(Engine& engine, uint32_t index) {
  Running running{engine.open_lane({index, LaneRole::kPrefill, 2, kTokens}), {}, some_ids(kTokens)};
  uint32_t cached = 0;
  running.handle = running.lane->create(running.ids, kTokens, {}, cached);
  const RowRequest row{running.handle, std::span(running.ids).subspan(cached), 0, true};
  running.lane->submit({&row, 1});
  return running;
}

uint32_t first_token(Engine& engine, uint32_t index) {
  const Running running = start(engine, index);
  const uint32_t token = running.lane->collect().rows[0].draws[0].token;
  running.lane->close();
  return token;
}

std::atomic<int> signals{0};

// Signals all the while, whose handler lets system calls be interrupted.
class Alarms {
 public:
  Alarms() {
    struct sigaction action {};
    action.sa_handler = [](int) { signals.fetch_add(1); };
    ::sigaction(SIGALRM, &action, &before_);
    constexpr suseconds_t kEvery = 200;  // microseconds: hundreds while a model is opened
    const itimerval often{{0, kEvery}, {0, kEvery}};
    ::setitimer(ITIMER_REAL, &often, nullptr);
  }
  ~Alarms() {
    const itimerval never{};
    ::setitimer(ITIMER_REAL, &never, nullptr);
    ::sigaction(SIGALRM, &before_, nullptr);
  }
  Alarms(const Alarms&) = delete;
  Alarms& operator=(const Alarms&) = delete;

 private:
  struct sigaction before_ {};
};

}  // namespace

UNIT_TEST(interrupts_a_lane_closed_or_opened_anew_in_a_step_gives_all_back) {
  const auto engine = std::make_shared<Engine>(tiny_engine(tiny_model("qwen2-q4_1"), 1024));
  const uint32_t truth = first_token(*engine, 0);
  for (int round = 0; round < 60; ++round) {
    Running closed = start(*engine, 0);
    Running replaced = start(*engine, 1);
    std::atomic<int> ends{0};
    // Whoever comes first: the collector has its tokens, or is told that the lane is closed.
    std::thread collector([&] {
      try {
        if (closed.lane->collect().rows[0].draws[0].token == truth) ++ends;
      } catch (const EngineError& error) {
        if (error.code() == ErrorCode::kStaleHandle) ++ends;
      }
    });
    std::thread closer([&] { closed.lane->close(); });
    const auto next = engine->open_lane({1, LaneRole::kDecode, 2, kTokens});
    closer.join();
    collector.join();
    CHECK_EQUAL(ends.load(), 1);
    bool stale = false;
    try {
      replaced.lane->collect();
    } catch (const EngineError& error) {
      stale = error.code() == ErrorCode::kStaleHandle;
    }
    CHECK(stale);
    CHECK_EQUAL(engine->pool().counts().used, 0U);
    CHECK_EQUAL(engine->pool().counts().sequences, 0U);
  }
  CHECK_EQUAL(first_token(*engine, 2), truth);
}

UNIT_TEST(interrupts_a_sequence_released_in_its_step_goes_when_that_has_ended) {
  const auto engine = std::make_shared<Engine>(tiny_engine(tiny_model("gemma3-q4_1")));
  const uint32_t truth = first_token(*engine, 0);
  for (int round = 0; round < 20; ++round) {
    const Running running = start(*engine, 0);
    std::thread other([&] { running.lane->release(running.handle); });
    // A collector that came first has let go of the sequence already; the token is the same.
    CHECK_EQUAL(running.lane->collect().rows[0].draws[0].token, truth);
    other.join();
    CHECK_EQUAL(engine->pool().counts().used, 0U);
    running.lane->close();
  }
}

UNIT_TEST(interrupts_an_engine_dropped_with_a_step_under_way_waits_for_it) {
  for (int round = 0; round < 20; ++round) {
    auto engine = std::make_shared<Engine>(tiny_engine(tiny_model("qwen3moe-q4_1")));
    Running running = start(*engine, 0);
    engine.reset();
    if (round % 2 == 0) CHECK_EQUAL(running.lane->collect().rows.size(), size_t{1});
    running.lane->close();
  }
}

UNIT_TEST(interrupts_by_signals_change_nothing) {
  const auto quiet = std::make_shared<Engine>(tiny_engine(tiny_model("phi3-q4_1")));
  const uint32_t truth = first_token(*quiet, 0);
  const Alarms alarms;
  while (signals.load() < 50) {
    const auto engine = std::make_shared<Engine>(tiny_engine(tiny_model("phi3-q4_1")));
    CHECK_EQUAL(first_token(*engine, 0), truth);
  }
}

}  // namespace streamserve::test
