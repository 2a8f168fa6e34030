#include <algorithm>
#include <numeric>
#include <random>

#include "kernels/kernels.h"
#include "sampling/noise.h"
#include "sampling/sampler.h"
#include "unit_test.h"

namespace streamserve {
namespace {

std::vector<float> random_logits(size_t count, uint32_t seed, float spread = 3) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

// Logits with the peaks that their row needs.
struct OwnedRow {
  std::vector<float> logits;
  std::vector<float> peaks;

  explicit OwnedRow(std::vector<float> values)
      : logits(std::move(values)), peaks(logit_blocks(logits.size())) {
    choose_kernels("portable")->block_peaks(logits.data(), logits.size(), peaks.data());
  }
  LogitRow row() { return {*choose_kernels("portable"), logits, peaks}; }
};

std::vector<double> softmax(const std::vector<float>& logits, double temperature) {
  std::vector<double> p(logits.size());
  double sum = 0;
  const float peak = *std::max_element(logits.begin(), logits.end());
  for (size_t i = 0; i < p.size(); ++i) sum += p[i] = std::exp((logits[i] - peak) / temperature);
  for (double& x : p) x /= sum;
  return p;
}

uint32_t draw_once(const SamplingParams& params, std::vector<float> logits, uint64_t position) {
  SamplingScratch scratch;
  OwnedRow row(std::move(logits));
  const auto draw = Sampler(params).draw(row.row(), position, scratch);
  CHECK(draw.has_value());
  return draw->token;
}

// Pearson's statistic over cells with at least five expected draws; the others are pooled.
double chi_square(const std::vector<uint32_t>& counts, const std::vector<double>& p, uint32_t draws,
                  int& freedom) {
  double sum = 0, pooled_expected = 0, pooled_seen = 0;
  freedom = -1;
  for (size_t i = 0; i < p.size(); ++i) {
    const double expected = p[i] * draws;
    if (expected < 5) {
      pooled_expected += expected;
      pooled_seen += counts[i];
      continue;
    }
    sum += (counts[i] - expected) * (counts[i] - expected) / expected;
    ++freedom;
  }
  if (pooled_expected >= 5) {
    sum += (pooled_seen - pooled_expected) * (pooled_seen - pooled_expected) / pooled_expected;
    ++freedom;
  }
  return sum;
}

void check_distribution(const SamplingParams& base, const std::vector<float>& logits,
                        const std::vector<double>& expected) {
  constexpr uint32_t kDraws = 100000;
  std::vector<uint32_t> counts(logits.size());
  for (uint32_t i = 0; i < kDraws; ++i) ++counts[draw_once(base, logits, i)];
  for (size_t i = 0; i < counts.size(); ++i) CHECK(expected[i] > 0 || counts[i] == 0);
  int freedom = 0;
  const double statistic = chi_square(counts, expected, kDraws, freedom);
  // Mean + 5 standard deviations of chi-square: one false alarm in millions, and the seed is fixed anyway.
  CHECK(statistic < freedom + 5 * std::sqrt(2.0 * freedom));
}

}  // namespace

UNIT_TEST(noise_bound_is_never_below_the_noise) {
  const Noise noise(7, 9);
  for (uint32_t token = 0; token < 200000; ++token) {
    const uint64_t bits = noise.bits(token);
    CHECK(Noise::bound(bits) >= Noise::gumbel(bits));
  }
  for (uint64_t bits : {uint64_t{0}, uint64_t{1}, uint64_t{0x7ff}, uint64_t{0x800}, ~uint64_t{0}}) {
    CHECK(std::isfinite(Noise::gumbel(bits)));
    CHECK(Noise::bound(bits) >= Noise::gumbel(bits));
  }
}

UNIT_TEST(greedy_draws_the_lowest_id_among_equals) {
  for (size_t size : {1u, 5u, 16u, 17u, 100u}) {
    std::vector<float> logits(size, 1.5f);
    CHECK_EQUAL(draw_once({}, logits, 3), 0u);
    logits.back() = 2;
    CHECK_EQUAL(draw_once({}, logits, 3), size - 1);
  }
}

UNIT_TEST(unusable_logits_are_refused) {
  const float inf = std::numeric_limits<float>::infinity();
  SamplingScratch scratch;
  for (float bad : {std::nanf(""), inf}) {
    std::vector<float> logits(40, 0.0f);
    logits[33] = bad;
    CHECK(!Sampler({}).draw(OwnedRow(logits).row(), 0, scratch).has_value());
  }
  std::vector<float> nothing(40, -inf);
  CHECK(!Sampler({}).draw(OwnedRow(nothing).row(), 0, scratch).has_value());
}

UNIT_TEST(gumbel_max_draws_from_the_softmax) {
  SamplingParams params;
  params.temperature = 1;
  params.seed = 11;
  const auto logits = random_logits(300, 1);
  check_distribution(params, logits, softmax(logits, 1));
  params.temperature = 0.6f;
  params.seed = 12;
  check_distribution(params, logits, softmax(logits, 0.6f));
}

UNIT_TEST(passing_over_hopeless_tokens_changes_no_draw) {
  SamplingParams params;
  params.temperature = 1.3f;
  for (uint32_t trial = 0; trial < 50; ++trial) {
    params.seed = trial;
    const auto logits = random_logits(2000, trial + 100, 6);
    const Noise noise(trial, 5);
    uint32_t best = 0;
    double best_score = -1e300;
    for (uint32_t token = 0; token < logits.size(); ++token) {
      const double score =
          logits[token] * (1 / static_cast<double>(params.temperature)) + Noise::gumbel(noise.bits(token));
      if (score > best_score) best_score = score, best = token;
    }
    CHECK_EQUAL(draw_once(params, logits, 5), best);
  }
}

UNIT_TEST(filters_keep_what_their_definitions_say) {
  for (uint32_t trial = 0; trial < 200; ++trial) {
    std::mt19937 random(trial);
    const size_t size = 1 + random() % 400;
    auto logits = random_logits(size, trial, trial % 3 == 0 ? 0.01f : 4);
    if (trial % 5 == 0) logits[random() % size] = logits[0];
    SamplingParams params;
    params.temperature = 0.3f + static_cast<float>(random() % 20) / 10;
    params.top_k = trial % 2 == 0 ? 0 : 1 + random() % 60;
    params.top_p = trial % 3 == 0 ? 1.0f : 0.05f + static_cast<float>(random() % 90) / 100;
    params.min_p = trial % 4 == 0 ? static_cast<float>(random() % 50) / 100 : 0;

    std::vector<uint32_t> order(size);
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
      return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
    });
    if (params.top_k > 0) order.resize(std::min<size_t>(size, params.top_k));
    const auto p = softmax(logits, params.temperature);
    double sum = 0;
    for (uint32_t token : order) sum += p[token];
    std::vector<uint32_t> kept;
    double reached = 0;
    for (uint32_t token : order) {
      if (params.top_p < 1 && reached >= params.top_p * sum) break;
      reached += p[token];
      kept.push_back(token);
    }
    std::erase_if(kept, [&](uint32_t token) { return p[token] < params.min_p * p[order[0]] * (1 - 1e-9); });

    std::vector<Candidate> got;
    OwnedRow row(logits);
    select_candidates(row.row(), find_peak(row.row()), params, got);
    // Rounding may move a boundary by one token.
    CHECK(got.size() + 1 >= kept.size() && got.size() <= kept.size() + 1);
    for (size_t i = 0; i < std::min(got.size(), kept.size()); ++i) CHECK_EQUAL(got[i].token, kept[i]);
  }
}

UNIT_TEST(filtered_draws_follow_the_renormalised_distribution) {
  const auto logits = random_logits(200, 5);
  SamplingParams params;
  params.temperature = 0.8f;
  params.top_p = 0.7f;
  params.seed = 3;
  std::vector<Candidate> kept;
  OwnedRow row(logits);
  select_candidates(row.row(), find_peak(row.row()), params, kept);
  const auto p = softmax(logits, params.temperature);
  std::vector<double> expected(p.size());
  double sum = 0;
  for (const auto& candidate : kept) sum += p[candidate.token];
  for (const auto& candidate : kept) expected[candidate.token] = p[candidate.token] / sum;
  check_distribution(params, logits, expected);
}

UNIT_TEST(penalties_bias_and_minimum_length_shape_the_logits) {
  SamplingScratch scratch;
  SamplingParams params;
  params.repetition_penalty = 2;
  params.presence_penalty = 0.5f;
  params.frequency_penalty = 0.25f;
  params.logit_bias = {{4, 10.0f}};
  params.stop_ids = {4};
  params.min_tokens = 4;
  params.logprobs = 0;
  Sampler sampler(params);
  const std::vector<uint32_t> prompt = {0, 1};
  sampler.add_prompt(prompt);
  for (uint32_t token : {2u, 2u, 3u}) sampler.add_output(token);
  OwnedRow row({4, -4, 4, -4, 3, 1});
  const std::vector<float>& logits = row.logits;
  auto draw = sampler.draw(row.row(), 5, scratch);
  CHECK_NEAR(logits[0], 2, 1e-6);
  CHECK_NEAR(logits[1], -8, 1e-6);
  CHECK_NEAR(logits[2], 2 - 0.5 - 0.5, 1e-6);
  CHECK_NEAR(logits[3], -8 - 0.5 - 0.25, 1e-6);
  CHECK(std::isinf(logits[4]));
  CHECK_EQUAL(draw->token, 0u);
  CHECK(!draw->stopped);
  sampler.add_output(0);
  draw = sampler.draw(OwnedRow({4, -4, 4, -4, 3, 1}).row(), 6, scratch);
  CHECK_EQUAL(draw->token, 4u);
  CHECK(draw->stopped);
}

UNIT_TEST(logprobs_are_of_the_distribution_at_temperature_one) {
  SamplingScratch scratch;
  SamplingParams params;
  params.temperature = 0.5f;
  params.top_k = 3;
  params.logprobs = 5;
  params.seed = 2;
  const auto logits = random_logits(1000, 8);
  const auto p = softmax(logits, 1);
  OwnedRow row(logits);
  const auto draw = Sampler(params).draw(row.row(), 1, scratch);
  CHECK_NEAR(draw->logprob, std::log(p[draw->token]), 1e-5);
  CHECK_EQUAL(draw->top.size(), 5u);
  for (size_t i = 0; i < 5; ++i) {
    CHECK_NEAR(draw->top[i].logit, std::log(p[draw->top[i].token]), 1e-5);
    if (i > 0) CHECK(draw->top[i - 1].logit >= draw->top[i].logit);
  }
}

UNIT_TEST(parameters_out_of_range_are_named) {
  SamplingParams params;
  CHECK(params.problem(10) == nullptr);
  params.temperature = std::nanf("");
  CHECK(params.problem(10) != nullptr);
  params = {};
  params.top_p = 0;
  CHECK(params.problem(10) != nullptr);
  params = {};
  params.logit_bias = {{10, 1.0f}};
  CHECK(params.problem(10) != nullptr);
  params = {};
  params.logprobs = 21;
  CHECK(params.problem(10) != nullptr);
}

UNIT_TEST(penalties_forget_outputs_that_are_taken_back) {
  SamplingParams params;
  params.repetition_penalty = 1.5f;
  params.frequency_penalty = 0.5f;
  params.presence_penalty = 0.25f;
  const auto penalised = [&](const std::vector<uint32_t>& kept, const std::vector<uint32_t>& undone) {
    History history(params);
    const uint32_t prompt[] = {1, 2};
    history.add_prompt(prompt);
    for (const uint32_t token : kept) history.add_output(token);
    for (const uint32_t token : undone) history.add_output(token);
    for (const uint32_t token : undone) history.remove_output(token);
    CHECK_EQUAL(history.outputs(), kept.size());
    OwnedRow owned(random_logits(8, 5));
    LogitRow row = owned.row();
    history.penalise(row);
    return owned.logits;
  };
  CHECK(penalised({1, 3, 3}, {1, 2, 3, 4, 4}) == penalised({1, 3, 3}, {}));
}

UNIT_TEST(likeliest_reach_past_finite_logits) {
  SamplingParams params;
  params.logprobs = 20;
  params.stop_ids = {3};
  params.min_tokens = 1;
  OwnedRow row(random_logits(20, 6));
  SamplingScratch scratch;
  const auto draw = Sampler(params).draw(row.row(), 0, scratch);
  CHECK(draw.has_value());
  CHECK_EQUAL(draw->top.size(), 20u);
  CHECK_EQUAL(draw->top.back().token, 3u);
}

}  // namespace streamserve
