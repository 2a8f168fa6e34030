// Draws by the definitions, from every logit in turn: what passing over blocks of logits must not change.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <random>

#include "kernels/kernels.h"
#include "sampling/noise.h"
#include "sampling/sampler.h"
#include "unit_test.h"

namespace streamserve {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Situation {
  SamplingParams params;
  std::vector<float> logits;
  std::vector<uint32_t> prompt;
  std::vector<uint32_t> outputs;
  uint64_t position;
};

std::vector<float> shaped_logits(const Situation& situation) {
  const SamplingParams& params = situation.params;
  std::vector<float> logits = situation.logits;
  std::map<uint32_t, uint32_t> seen;
  for (const uint32_t token : situation.prompt) seen[token] += 0;
  for (const uint32_t token : situation.outputs) ++seen[token];
  for (const auto& [token, outputs] : seen) {
    float& logit = logits[token];
    if (params.repetition_penalty != 1) {
      logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    }
    if (outputs > 0) {
      logit -= params.presence_penalty + params.frequency_penalty * static_cast<float>(outputs);
    }
  }
  for (const auto& [token, bias] : params.logit_bias) logits[token] += bias;
  if (situation.outputs.size() < params.min_tokens) {
    for (const uint32_t token : params.stop_ids) logits[token] = -kInfinity;
  }
  return logits;
}

bool usable(const std::vector<float>& logits) {
  const auto bad = [](float logit) { return std::isnan(logit) || logit == kInfinity; };
  return std::none_of(logits.begin(), logits.end(), bad) &&
         *std::max_element(logits.begin(), logits.end()) > -kInfinity;
}

std::vector<Candidate> all_likeliest_first(const std::vector<float>& logits) {
  std::vector<Candidate> all;
  for (uint32_t token = 0; token < logits.size(); ++token) all.push_back({token, logits[token]});
  std::sort(all.begin(), all.end(), likelier);
  return all;
}

void keep_nucleus(std::vector<Candidate>& kept, const std::vector<float>& logits,
                  const SamplingParams& params) {
  const double unit = params.temperature;
  const double peak = kept[0].logit;
  const auto mass = [&](float logit) { return std::exp((static_cast<double>(logit) - peak) / unit); };
  double total = 0;
  if (params.top_k > 0) {
    for (const Candidate& candidate : kept) total += mass(candidate.logit);
  } else {
    for (const float logit : logits) total += mass(logit);
  }
  double sum = 0;
  for (size_t i = 0; i < kept.size(); ++i) {
    sum += mass(kept[i].logit);
    if (sum >= params.top_p * total) return kept.resize(i + 1);
  }
}

uint32_t plain_token(const Situation& situation, const std::vector<float>& logits) {
  const SamplingParams& params = situation.params;
  std::vector<Candidate> kept = all_likeliest_first(logits);
  const Candidate first = kept[0];
  if (params.temperature <= 0) return first.token;
  if (params.top_k > 0) kept.resize(std::min<size_t>(kept.size(), params.top_k));
  if (params.top_p < 1) keep_nucleus(kept, logits, params);
  if (params.min_p > 0) {
    const double least = first.logit + params.temperature * std::log(static_cast<double>(params.min_p));
    std::erase_if(kept, [least](const Candidate& candidate) { return candidate.logit < least; });
  }
  const Noise noise(params.seed, situation.position);
  double best = -std::numeric_limits<double>::infinity();
  uint32_t token = 0;
  for (const Candidate& candidate : kept) {
    const double noisy = candidate.logit * (1 / static_cast<double>(params.temperature)) +
                         Noise::gumbel(noise.bits(candidate.token));
    if (noisy > best) best = noisy, token = candidate.token;
  }
  return token;
}

std::optional<Draw> draw_plainly(const Situation& situation) {
  const std::vector<float> logits = shaped_logits(situation);
  if (!usable(logits)) return std::nullopt;
  const SamplingParams& params = situation.params;
  Draw draw;
  draw.token = plain_token(situation, logits);
  draw.stopped =
      std::find(params.stop_ids.begin(), params.stop_ids.end(), draw.token) != params.stop_ids.end();
  if (params.logprobs < 0) return draw;
  draw.top = all_likeliest_first(logits);
  const double total = log_sum_exp(logits, draw.top[0].logit);
  draw.top.resize(std::min<size_t>(draw.top.size(), static_cast<size_t>(params.logprobs)));
  draw.logprob = static_cast<float>(logits[draw.token] - total);
  for (Candidate& candidate : draw.top) candidate.logit = static_cast<float>(candidate.logit - total);
  return draw;
}

std::optional<Draw> draw_by_blocks(const Situation& situation, const Kernels& kernels) {
  std::vector<float> logits = situation.logits;
  std::vector<float> peaks(logit_blocks(logits.size()));
  kernels.block_peaks(logits.data(), logits.size(), peaks.data());
  Sampler sampler(situation.params);
  sampler.add_prompt(situation.prompt);
  for (const uint32_t token : situation.outputs) sampler.add_output(token);
  SamplingScratch scratch;
  return sampler.draw({kernels, logits, peaks}, situation.position, scratch);
}

class Chance {
 public:
  explicit Chance(uint32_t seed) : random_(seed) {}
  uint32_t below(uint32_t limit) { return random_() % limit; }
  bool one_in(uint32_t many) { return below(many) == 0; }
  float between(float low, float high) { return std::uniform_real_distribution<float>(low, high)(random_); }
  float normal(float spread) { return std::normal_distribution<float>(0, spread)(random_); }
  std::vector<uint32_t> tokens(uint32_t most, uint32_t vocabulary) {
    std::vector<uint32_t> result(below(most + 1));
    for (uint32_t& token : result) token = below(vocabulary);
    return result;
  }

 private:
  std::mt19937 random_;
};

std::vector<float> any_logits(Chance& chance) {
  // From one to dozens of blocks, whole and not.
  std::vector<float> logits(1 + chance.below(chance.one_in(2) ? 200 : 4000));
  const float spread = chance.one_in(4) ? 30 : chance.between(0.01F, 5);
  // Coarse steps make ties.
  const float step = chance.one_in(3) ? 0.5F : 0;
  for (float& logit : logits) {
    logit = chance.normal(spread);
    if (step > 0) logit = std::round(logit / step) * step;
  }
  const auto size = static_cast<uint32_t>(logits.size());
  if (chance.one_in(5)) {
    for (int i = 0; i < 20; ++i) logits[chance.below(size)] = -kInfinity;
  }
  if (chance.one_in(40)) std::fill(logits.begin(), logits.end(), -kInfinity);
  if (chance.one_in(8)) {
    constexpr float kOdd[] = {std::numeric_limits<float>::quiet_NaN(), kInfinity, 3e38F, -3e38F, -0.0F};
    logits[chance.below(size)] = kOdd[chance.below(5)];
  }
  return logits;
}

Situation any_situation(uint32_t seed) {
  Chance chance(seed);
  Situation situation;
  situation.logits = any_logits(chance);
  const auto size = static_cast<uint32_t>(situation.logits.size());
  SamplingParams& params = situation.params;
  if (!chance.one_in(5)) params.temperature = chance.one_in(6) ? 1e-3F : chance.between(0.1F, 2);
  if (chance.one_in(2)) params.top_k = 1 + chance.below(chance.one_in(3) ? size + 2 : 60);
  if (chance.one_in(2)) params.top_p = chance.between(0.01F, 1);
  if (chance.one_in(3)) params.min_p = chance.one_in(5) ? 1e-30F : chance.between(0, 1);
  if (chance.one_in(3)) params.repetition_penalty = chance.between(0.5F, 2);
  if (chance.one_in(3)) params.presence_penalty = chance.between(-2, 2);
  if (chance.one_in(3)) params.frequency_penalty = chance.between(-2, 2);
  if (chance.one_in(2)) params.logprobs = static_cast<int32_t>(chance.below(21));
  for (const uint32_t token : chance.tokens(6, size)) {
    params.logit_bias.emplace_back(token, chance.between(-100, 100));
  }
  params.stop_ids = chance.tokens(3, size);
  params.min_tokens = chance.below(10);
  params.seed = seed;
  situation.prompt = chance.tokens(20, size);
  situation.outputs = chance.tokens(20, size);
  situation.position = chance.below(10000);
  // A block's peak is changed often enough only if it is aimed at.
  const auto most = std::max_element(situation.logits.begin(), situation.logits.end());
  const auto peak = static_cast<uint32_t>(most - situation.logits.begin());
  if (chance.one_in(3)) situation.outputs.push_back(peak);
  if (chance.one_in(6)) params.stop_ids.push_back(peak);
  return situation;
}

bool same_bits(float a, float b) { return std::memcmp(&a, &b, sizeof(a)) == 0; }

}  // namespace

UNIT_TEST(draws_by_blocks_are_the_draws_from_all_logits) {
  const Kernels& kernels = *choose_kernels(nullptr);
  uint32_t refused = 0;
  for (uint32_t seed = 0; seed < 4000; ++seed) {
    const Situation situation = any_situation(seed);
    const std::optional<Draw> expected = draw_plainly(situation);
    const std::optional<Draw> got = draw_by_blocks(situation, kernels);
    CHECK_EQUAL(got.has_value(), expected.has_value());
    if (!expected) {
      ++refused;
      continue;
    }
    CHECK_EQUAL(got->token, expected->token);
    CHECK_EQUAL(got->stopped, expected->stopped);
    CHECK(same_bits(got->logprob, expected->logprob));
    CHECK_EQUAL(got->top.size(), expected->top.size());
    for (size_t i = 0; i < expected->top.size(); ++i) {
      CHECK_EQUAL(got->top[i].token, expected->top[i].token);
      CHECK(same_bits(got->top[i].logit, expected->top[i].logit));
    }
  }
  // Both outcomes must have been compared.
  CHECK(refused > 50 && refused < 1000);
}

UNIT_TEST(setting_logits_keeps_the_peaks_true) {
  const Kernels& kernels = *choose_kernels(nullptr);
  for (uint32_t seed = 0; seed < 500; ++seed) {
    Chance chance(seed);
    std::vector<float> logits = any_logits(chance);
    const auto size = static_cast<uint32_t>(logits.size());
    std::vector<float> peaks(logit_blocks(size));
    kernels.block_peaks(logits.data(), size, peaks.data());
    LogitRow row(kernels, logits, peaks);
    for (int i = 0; i < 50; ++i) {
      const float logit = chance.one_in(10)   ? kInfinity
                          : chance.one_in(10) ? std::nanf("")
                                              : chance.normal(5);
      row.set(chance.below(size), chance.one_in(5) ? -kInfinity : logit);
    }
    std::vector<float> anew(peaks.size());
    kernels.block_peaks(logits.data(), size, anew.data());
    for (size_t b = 0; b < peaks.size(); ++b) {
      CHECK(peaks[b] == anew[b] || (std::isnan(peaks[b]) && std::isnan(anew[b])));
    }
  }
}

}  // namespace streamserve
