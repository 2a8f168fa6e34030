// Times what the compute pool adds between two regions of a step, and what it costs while nothing runs.
// Usage: pool-bench [threads]
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#include "compute/pool.h"

namespace streamserve {
namespace {

using std::chrono::duration;
using std::chrono::steady_clock;

// A step of a 30-layer model has some 270 regions.
constexpr uint32_t kRegions = 270;
constexpr uint32_t kSteps = 200;
constexpr size_t kScratchFloats = 16;

// Dependent multiplications that the compiler can't drop: work of a fixed length without memory.
float work(uint32_t rounds) {
  float x = 1.0F;
  for (uint32_t i = 0; i < rounds; ++i) {
    x = x * 1.0001F;
    asm volatile("" : "+x"(x));
  }
  return x;
}

// Regions of `chunks` equal chunks, each `rounds` of work.
class EvenProgram final : public Program {
 public:
  EvenProgram(uint32_t chunks, uint32_t rounds) : rounds_(rounds), chunks_(kRegions, chunks) {}
  std::span<const uint32_t> regions() const override { return chunks_; }
  void run(uint32_t, uint32_t, ThreadScratch scratch) noexcept override { scratch.floats[0] = work(rounds_); }
  void finish(uint32_t) noexcept override {}

 private:
  uint32_t rounds_;
  std::vector<uint32_t> chunks_;
};

// Median microseconds of a region.
double region_us(ComputePool& pool, EvenProgram& program) {
  const AlignedArray<float> memory = aligned_array<float>(kScratchFloats);
  const auto task = std::make_shared<Task>(kRegions);
  std::vector<double> steps;
  for (uint32_t step = 0; step < kSteps; ++step) {
    task->reset(program, LaneRole::kDecode, pool.threads());
    pool.submit(task);
    pool.collect(task, {{memory.get(), kScratchFloats}, 0});
    steps.push_back(task->compute_ms() * 1e3 / kRegions);
    while (!task->idle()) std::this_thread::yield();
  }
  std::nth_element(steps.begin(), steps.begin() + kSteps / 2, steps.end());
  return steps[kSteps / 2];
}

double processor_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

void bench(uint32_t threads) {
  ComputePool pool(kScratchFloats);
  pool.set_cores(threads);
  std::printf("%8s %14s %14s %14s %14s\n", "threads", "work", "region alone", "region shared", "added");
  for (const uint32_t rounds : {0U, 4'000U, 40'000U}) {
    pool.set_cores(1);
    EvenProgram one(1, rounds);
    const double alone = region_us(pool, one);
    pool.set_cores(threads);
    EvenProgram all(threads, rounds);
    const double shared = region_us(pool, all);
    std::printf("%8u %14u %11.2f us %11.2f us %11.2f us\n", threads, rounds, alone, shared, shared - alone);
  }
  // Past the time that idle threads look for work before they park.
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  const double before = processor_seconds();
  const auto began = steady_clock::now();
  std::this_thread::sleep_for(std::chrono::seconds(1));
  const double used = processor_seconds() - before;
  std::printf("idle: %.3f%% of a core\n", 100 * used / duration<double>(steady_clock::now() - began).count());
}

}  // namespace
}  // namespace streamserve

int main(int count, char** arguments) {
  const int threads = count > 1 ? std::atoi(arguments[1]) : 2;
  if (threads < 1 || threads > 256) {
    std::fprintf(stderr, "usage: pool-bench [threads]\n");
    return 2;
  }
  streamserve::bench(static_cast<uint32_t>(threads));
  return 0;
}
