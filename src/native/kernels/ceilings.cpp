#include "ceilings.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <thread>
#include <vector>

#include "families.h"
#include "peaks.h"

namespace streamserve {
namespace {

constexpr int kTries = 40;
// About 1 ms of work at 3 GHz: long against starting together, short against a scheduler's slice, so that on
// a busy machine some tries run undisturbed.
constexpr uint64_t kRounds = 200'000;
// Reading takes long enough for fewer.
constexpr int kReadTries = 10;
constexpr size_t kPage = 4096;
constexpr size_t kHugePage = 2 << 20;

const PeakLoops& peaks_of(const Kernels& kernels) {
#if defined(__x86_64__)
  if (&kernels == &kAvx512VnniKernels) return kAvx512VnniPeaks;
  if (&kernels == &kAvx2VnniKernels) return kAvx2VnniPeaks;
  if (&kernels == &kAvx2Kernels) return kAvx2Peaks;
#elif defined(__aarch64__)
  if (&kernels == &kNeonI8mmKernels) return kNeonI8mmPeaks;
  if (&kernels == &kNeonDotprodKernels) return kNeonDotprodPeaks;
#endif
  (void)kernels;
  return kPortablePeaks;
}

double seconds_between(std::chrono::steady_clock::time_point from, std::chrono::steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

// Runs work(thread) on `threads` threads that start together; returns the seconds until the last ends, 0 if a
// thread could not be started.
template <typename Work>
double run_together(uint32_t threads, Work work) {
  std::atomic<uint32_t> ready{0};
  std::atomic<bool> cancelled{false};
  std::vector<std::chrono::steady_clock::time_point> begun(threads);
  std::vector<std::chrono::steady_clock::time_point> ended(threads);
  auto body = [&](uint32_t thread) {
    ready.fetch_add(1);
    while (ready.load() < threads) {
      if (cancelled.load()) return;
      std::this_thread::yield();
    }
    begun[thread] = std::chrono::steady_clock::now();
    work(thread);
    ended[thread] = std::chrono::steady_clock::now();
  };
  std::vector<std::jthread> others;
  others.reserve(threads);
  try {
    for (uint32_t thread = 1; thread < threads; thread++) others.emplace_back(body, thread);
  } catch (const std::exception&) {
    cancelled.store(true);
    return 0;
  }
  body(0);
  others.clear();
  return seconds_between(*std::min_element(begun.begin(), begun.end()),
                         *std::max_element(ended.begin(), ended.end()));
}

// The best rate of `tries`; `work(thread)` returns the amount it did.
template <typename Work>
double best_rate(uint32_t threads, int tries, Work work) {
  double best = 0;
  for (int attempt = 0; attempt < tries; attempt++) {
    std::vector<uint64_t> done(threads);
    const double seconds = run_together(threads, [&](uint32_t thread) { done[thread] = work(thread); });
    if (seconds <= 0) return 0;
    uint64_t total = 0;
    for (const uint64_t amount : done) total += amount;
    best = std::max(best, static_cast<double>(total) / seconds);
  }
  return best;
}

uint64_t read_all(const uint8_t* bytes, size_t size) {
  // The compiler's own vectors: reading needs no particular instruction set, and prefetchers do the rest.
  using Vector = uint64_t __attribute__((vector_size(64)));
  Vector folded[4] = {};
  const auto* vectors = reinterpret_cast<const Vector*>(bytes);
  for (size_t i = 0; i + 4 <= size / sizeof(Vector); i += 4) {
    for (size_t j = 0; j < 4; j++) folded[j] ^= vectors[i + j];
  }
  for (Vector& vector : folded) asm volatile("" : : "m"(vector));
  return size;
}

struct FreeBytes {
  void operator()(uint8_t* bytes) const { std::free(bytes); }
};

// Bytes in huge pages where the system offers them: with small ones a large read measures address
// translation.
std::unique_ptr<uint8_t, FreeBytes> huge_pages(size_t size) {
  const size_t rounded = (size + kHugePage - 1) / kHugePage * kHugePage;
  std::unique_ptr<uint8_t, FreeBytes> bytes(static_cast<uint8_t*>(std::aligned_alloc(kHugePage, rounded)));
#ifdef MADV_HUGEPAGE
  if (bytes != nullptr) ::madvise(bytes.get(), rounded, MADV_HUGEPAGE);
#endif
  if (bytes != nullptr) std::memset(bytes.get(), 1, rounded);
  return bytes;
}

}  // namespace

Ceilings measure_ceilings(const Kernels& kernels, uint32_t threads, size_t read_bytes) {
  Ceilings ceilings{};
  const PeakLoops& peaks = peaks_of(kernels);
  ceilings.integer_macs = best_rate(threads, kTries, [&](uint32_t) { return peaks.integer_dot(kRounds); });
  ceilings.float_macs = best_rate(threads, kTries, [&](uint32_t) { return peaks.float_fma(kRounds); });
  const size_t part = read_bytes / threads / kPage * kPage;
  if (part == 0) return ceilings;
  const auto bytes = huge_pages(part * threads);
  if (bytes == nullptr) return ceilings;
  ceilings.read_bytes = best_rate(
      threads, kReadTries, [&](uint32_t thread) { return read_all(bytes.get() + thread * part, part); });
  return ceilings;
}

}  // namespace streamserve
