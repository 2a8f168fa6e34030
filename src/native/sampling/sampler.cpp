#include "sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "sampling/noise.h"

namespace streamserve {
namespace {

// Gumbel-max over scored tokens. A token whose bound can't reach the best so far is passed over without
// computing its noise: two logarithms for a handful of tokens instead of for the whole vocabulary.
class GumbelMax {
 public:
  GumbelMax(const Noise& noise, double temperature) : noise_(noise), inverse_(1 / temperature) {}

  void offer(uint32_t token, float logit) { offer(token, logit, noise_.bits(token)); }

  // All tokens of a block, of which `first` is the first and `peak` the largest logit.
  void offer_block(uint32_t first, std::span<const float> logits, float peak) {
    const int zeros = least_zeros(peak * inverse_);
    if (zeros > Noise::kMostZeros) return;
    for (uint32_t i = 0; i < logits.size(); ++i) {
      const uint64_t bits = noise_.bits(first + i);
      if (bits <= ~uint64_t{0} >> zeros) offer(first + i, logits[i], bits);
    }
  }

  uint32_t token() const { return token_; }

 private:
  void offer(uint32_t token, float logit, uint64_t bits) {
    const double score = logit * inverse_;
    if (!(score + Noise::bound(bits) > best_)) return;
    const double noisy = score + Noise::gumbel(bits);
    if (noisy > best_) {
      best_ = noisy;
      token_ = token;
    }
  }

  // Noise of fewer leading zeros can't lift a score of at most `score` above the best so far: rounding is
  // monotonic, so what holds for the largest score holds for all.
  int least_zeros(double score) const {
    // Starts at two less than what is needed but for rounding.
    const double missing = (best_ - score) / Noise::bound_of_zeros(0) - 2;
    int zeros = missing > 0 ? static_cast<int>(std::min<double>(missing, Noise::kMostZeros)) : 0;
    while (zeros <= Noise::kMostZeros && !(score + Noise::bound_of_zeros(zeros) > best_)) ++zeros;
    return zeros;
  }

  const Noise& noise_;
  double inverse_;
  double best_ = -std::numeric_limits<double>::infinity();
  uint32_t token_ = 0;
};

}  // namespace

Sampler::Sampler(SamplingParams params) : params_(std::move(params)), history_(params_) {}

uint32_t Sampler::draw_token(const LogitRow& row, const Peak& peak, uint64_t position,
                             SamplingScratch& scratch) const {
  if (params_.temperature <= 0) return peak.token;
  const Noise noise(params_.seed, position);
  GumbelMax best(noise, params_.temperature);
  if (keeps_all(params_)) {
    best.offer(peak.token, peak.logit);
    for (size_t b = 0; b < row.blocks(); ++b) {
      best.offer_block(static_cast<uint32_t>(b * kLogitBlock), row.block(b), row.peaks()[b]);
    }
  } else {
    select_candidates(row, peak, params_, scratch.candidates);
    for (const Candidate& candidate : scratch.candidates) best.offer(candidate.token, candidate.logit);
  }
  return best.token();
}

std::optional<Draw> Sampler::draw(LogitRow row, uint64_t position, SamplingScratch& scratch) const {
  history_.penalise(row);
  for (const auto& [token, bias] : params_.logit_bias) row.set(token, row[token] + bias);
  if (history_.outputs() < params_.min_tokens) {
    for (uint32_t token : params_.stop_ids) row.set(token, -std::numeric_limits<float>::infinity());
  }
  const Peak peak = find_peak(row);
  if (!peak.usable) return std::nullopt;

  Draw result;
  result.token = draw_token(row, peak, position, scratch);
  const auto& stops = params_.stop_ids;
  result.stopped = std::find(stops.begin(), stops.end(), result.token) != stops.end();
  if (params_.logprobs >= 0) {
    const double total = log_sum_exp(row.logits(), peak.logit);
    const auto logprob = [total](float logit) { return static_cast<float>(logit - total); };
    result.logprob = logprob(row[result.token]);
    if (params_.logprobs > 0) {
      select_likeliest(row, peak, static_cast<size_t>(params_.logprobs), result.top);
      for (Candidate& candidate : result.top) candidate.logit = logprob(candidate.logit);
    }
  }
  return result;
}

}  // namespace streamserve
