#include "sampling/candidates.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace streamserve {
namespace {

// Logits below the peak by this much are looked at first; most selections end within it. In units of the
// temperature: e^-6 = 0.25% of the peak's probability.
constexpr double kFirstWindow = 6;
// Logits of real models differ by less.
constexpr double kWideWindow = 128;

void gather(std::span<const float> logits, float least, std::vector<Candidate>& out) {
  out.clear();
  for (uint32_t token = 0; token < logits.size(); ++token) {
    if (logits[token] >= least) out.push_back({token, logits[token]});
  }
}

// Widens a window below the peak until `enough(out)` holds or all tokens are in it.
template <typename Enough>
void gather_until(std::span<const float> logits, float peak, double unit, std::vector<Candidate>& out,
                  Enough enough) {
  // Tokens at minus infinity are in no window: past all real differences it widens fast.
  for (double window = kFirstWindow;; window *= window < kWideWindow ? 2 : window) {
    const double least = peak - window * unit;
    gather(logits, static_cast<float>(least), out);
    if (out.size() == logits.size() || enough(out)) return;
    // Wider than any float: what is left out has probability zero.
    if (least < -std::numeric_limits<float>::max()) return;
  }
}

double mass(const Candidate& candidate, const Peak& peak, double unit) {
  return std::exp((static_cast<double>(candidate.logit) - peak.logit) / unit);
}

// Length of the shortest prefix of `sorted` whose mass reaches `wanted`; its whole size + 1 when none does.
size_t nucleus(const std::vector<Candidate>& sorted, const Peak& peak, double unit, double wanted) {
  double sum = 0;
  for (size_t i = 0; i < sorted.size(); ++i) {
    sum += mass(sorted[i], peak, unit);
    if (sum >= wanted) return i + 1;
  }
  return sorted.size() + 1;
}

double total_mass(std::span<const float> logits, const Peak& peak, double unit) {
  double sum = 0;
  for (float logit : logits) sum += std::exp((static_cast<double>(logit) - peak.logit) / unit);
  return sum;
}

}  // namespace

bool keeps_all(const SamplingParams& params) {
  return params.top_k == 0 && params.top_p >= 1 && params.min_p <= 0;
}

void select_likeliest(std::span<const float> logits, const Peak& peak, size_t count,
                      std::vector<Candidate>& out) {
  const size_t wanted = std::min(count, logits.size());
  gather_until(logits, peak.logit, 1, out, [wanted](const auto& found) { return found.size() >= wanted; });
  const size_t kept = std::min(wanted, out.size());
  std::partial_sort(out.begin(), out.begin() + kept, out.end(), likelier);
  out.resize(kept);
}

void select_candidates(std::span<const float> logits, const Peak& peak, const SamplingParams& params,
                       std::vector<Candidate>& out) {
  const double unit = params.temperature;
  if (params.top_k > 0) {
    select_likeliest(logits, peak, params.top_k, out);
    if (params.top_p < 1) {
      double sum = 0;
      for (const Candidate& candidate : out) sum += mass(candidate, peak, unit);
      out.resize(std::min(out.size(), nucleus(out, peak, unit, params.top_p * sum)));
    }
  } else if (params.top_p < 1) {
    const double wanted = params.top_p * total_mass(logits, peak, unit);
    size_t kept = 0;
    gather_until(logits, peak.logit, unit, out, [&](auto& found) {
      std::sort(found.begin(), found.end(), likelier);
      kept = nucleus(found, peak, unit, wanted);
      return kept <= found.size();
    });
    // All tokens are in and rounding still kept the sum below: keep them all.
    out.resize(std::min(out.size(), kept));
  } else {
    gather(logits, -std::numeric_limits<float>::max(), out);
    if (params.min_p <= 0) std::sort(out.begin(), out.end(), likelier);
  }
  if (params.min_p > 0) {
    const double least = peak.logit + unit * std::log(static_cast<double>(params.min_p));
    std::erase_if(out, [least](const Candidate& candidate) { return candidate.logit < least; });
    std::sort(out.begin(), out.end(), likelier);
  }
}

}  // namespace streamserve
