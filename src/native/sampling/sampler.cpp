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

  void offer(uint32_t token, float logit) {
    const double score = logit * inverse_;
    const uint64_t bits = noise_.bits(token);
    if (!(score + Noise::bound(bits) > best_)) return;
    const double noisy = score + Noise::gumbel(bits);
    if (noisy > best_) {
      best_ = noisy;
      token_ = token;
    }
  }
  uint32_t token() const { return token_; }

 private:
  const Noise& noise_;
  double inverse_;
  double best_ = -std::numeric_limits<double>::infinity();
  uint32_t token_ = 0;
};

}  // namespace

Sampler::Sampler(SamplingParams params) : params_(std::move(params)), history_(params_) {}

uint32_t Sampler::draw_token(std::span<const float> logits, const Peak& peak, uint64_t position,
                             SamplingScratch& scratch) const {
  if (params_.temperature <= 0) return peak.token;
  const Noise noise(params_.seed, position);
  GumbelMax best(noise, params_.temperature);
  if (keeps_all(params_)) {
    best.offer(peak.token, peak.logit);
    for (uint32_t token = 0; token < logits.size(); ++token) best.offer(token, logits[token]);
  } else {
    select_candidates(logits, peak, params_, scratch.candidates);
    for (const Candidate& candidate : scratch.candidates) best.offer(candidate.token, candidate.logit);
  }
  return best.token();
}

std::optional<Draw> Sampler::draw(std::span<float> logits, uint64_t position,
                                  SamplingScratch& scratch) const {
  history_.penalise(logits);
  for (const auto& [token, bias] : params_.logit_bias) logits[token] += bias;
  if (history_.outputs() < params_.min_tokens) {
    for (uint32_t token : params_.stop_ids) logits[token] = -std::numeric_limits<float>::infinity();
  }
  const Peak peak = find_peak(logits);
  if (!peak.usable) return std::nullopt;

  Draw result;
  result.token = draw_token(logits, peak, position, scratch);
  const auto& stops = params_.stop_ids;
  result.stopped = std::find(stops.begin(), stops.end(), result.token) != stops.end();
  if (params_.logprobs >= 0) {
    const double total = log_sum_exp(logits, peak.logit);
    const auto logprob = [total](float logit) { return static_cast<float>(logit - total); };
    result.logprob = logprob(logits[result.token]);
    if (params_.logprobs > 0) {
      select_likeliest(logits, peak, static_cast<size_t>(params_.logprobs), result.top);
      for (Candidate& candidate : result.top) candidate.logit = logprob(candidate.logit);
    }
  }
  return result;
}

}  // namespace streamserve
