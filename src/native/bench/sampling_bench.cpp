// Times draws from rows of logits as long as real vocabularies. Usage: sampling-bench [draws]
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "kernels/kernels.h"
#include "sampling/sampler.h"

namespace streamserve {
namespace {

using Clock = std::chrono::steady_clock;

// SmolLM2, Qwen2 and Qwen3, Gemma 3.
constexpr size_t kVocabularies[] = {49152, 151936, 262144};
// Rows that take turns, so that no row is found in the nearest cache because it was just drawn from.
constexpr size_t kRows = 8;
constexpr float kCap = 30;  // Gemma 2's

struct Case {
  const char* name;
  SamplingParams params;
};

std::vector<Case> cases() {
  SamplingParams usual;
  usual.temperature = 0.8F;
  usual.top_k = 40;
  usual.top_p = 0.95F;
  SamplingParams plain;
  plain.temperature = 1;
  SamplingParams nucleus = plain;
  nucleus.top_p = 0.95F;
  SamplingParams least = plain;
  least.min_p = 0.05F;
  SamplingParams penalised = usual;
  penalised.repetition_penalty = 1.1F;
  return {{"greedy", {}},
          {"top-k 40, top-p 0.95, T 0.8", usual},
          {"the same, 1000 tokens penalised", penalised},
          {"T 1", plain},
          {"top-p 0.95", nucleus},
          {"min-p 0.05", least}};
}

// Most logits near 0 and some tens far above, as models have it: a normal distribution and a tail. `capped`
// as Gemma does.
std::vector<float> make_row(size_t size, std::mt19937& random, bool capped) {
  std::normal_distribution<float> normal(0, 2);
  std::exponential_distribution<float> tail(0.5F);
  std::vector<float> row(size);
  for (float& logit : row) logit = normal(random);
  for (int i = 0; i < 40; ++i) row[random() % size] = 11 + tail(random);
  if (capped) {
    for (float& logit : row) logit = kCap * std::tanh(logit / kCap);
  }
  return row;
}

double microseconds(Clock::time_point from) {
  return std::chrono::duration<double, std::micro>(Clock::now() - from).count();
}

double median(std::vector<double>& times) {
  std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
  return times[times.size() / 2];
}

// Median microseconds of a draw, and of finding the peaks before it.
void time_draws(const Case& what, size_t vocabulary, bool capped, int draws) {
  const Kernels& kernels = *choose_kernels(nullptr);
  std::mt19937 random(1);
  std::vector<std::vector<float>> rows;
  for (size_t r = 0; r < kRows; ++r) rows.push_back(make_row(vocabulary, random, capped));
  std::vector<float> peaks(logit_blocks(vocabulary));
  Sampler sampler(what.params);
  for (uint32_t i = 0; i < 1000; ++i) sampler.add_output(i * 13 % vocabulary);
  SamplingScratch scratch;
  std::vector<double> finding, drawing;
  std::vector<float> row;
  uint64_t drawn = 0;
  for (int i = 0; i < draws; ++i) {
    row = rows[i % kRows];
    const auto begin = Clock::now();
    kernels.block_peaks(row.data(), row.size(), peaks.data());
    finding.push_back(microseconds(begin));
    const auto middle = Clock::now();
    drawn += sampler.draw({kernels, row, peaks}, i, scratch)->token;
    drawing.push_back(microseconds(middle));
  }
  std::printf("%7zu%s %-32s %9.1f us, peaks %6.1f us  (%llu)\n", vocabulary, capped ? " capped" : "",
              what.name, median(drawing), median(finding), static_cast<unsigned long long>(drawn));
}

}  // namespace
}  // namespace streamserve

int main(int count, char** arguments) {
  const int draws = count > 1 ? std::atoi(arguments[1]) : 200;
  if (draws < 1) return 2;
  for (const size_t vocabulary : streamserve::kVocabularies) {
    for (const auto& what : streamserve::cases()) streamserve::time_draws(what, vocabulary, false, draws);
  }
  for (const auto& what : streamserve::cases()) streamserve::time_draws(what, 262144, true, draws);
}
