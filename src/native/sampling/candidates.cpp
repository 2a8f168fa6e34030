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

// All tokens of logits not below `least`, in order of ids. Reads just the blocks that hold some.
void gather(const LogitRow& row, double least, std::vector<Candidate>& out) {
  out.clear();
  for (size_t b = 0; b < row.blocks(); ++b) {
    if (row.peaks()[b] < least) continue;
    auto token = static_cast<uint32_t>(b * kLogitBlock);
    for (const float logit : row.block(b)) {
      if (logit >= least) out.push_back({token, logit});
      ++token;
    }
  }
}

// The `count`-th largest peak of a block: as many logits at least are not below it. `count` must be from 1 to
// row.blocks(); `out` is overwritten.
float nth_largest_peak(const LogitRow& row, size_t count, std::vector<Candidate>& out) {
  // A heap of the largest so far, the least of them on top.
  out.clear();
  for (uint32_t b = 0; b < row.blocks(); ++b) {
    const Candidate block{b, row.peaks()[b]};
    if (out.size() == count) {
      if (!likelier(block, out.front())) continue;
      std::pop_heap(out.begin(), out.end(), likelier);
      out.back() = block;
    } else {
      out.push_back(block);
    }
    std::push_heap(out.begin(), out.end(), likelier);
  }
  return out.front().logit;
}

// Widens a window below the peak until `enough(out)` holds or all tokens are in it.
template <typename Enough>
void gather_until(const LogitRow& row, float peak, double unit, std::vector<Candidate>& out, Enough enough) {
  // Tokens at minus infinity are in no window: past all real differences it widens fast.
  for (double window = kFirstWindow;; window *= window < kWideWindow ? 2 : window) {
    const double least = peak - window * unit;
    gather(row, static_cast<float>(least), out);
    if (enough(out) || out.size() == row.size()) return;
    // Wider than any float: what is left out has probability zero.
    if (least < -std::numeric_limits<float>::max()) return;
  }
}

double mass(const Candidate& candidate, const Peak& peak, double unit) {
  return std::exp((static_cast<double>(candidate.logit) - peak.logit) / unit);
}

// The shortest prefix of `sorted` whose mass reaches `wanted`: its length and mass. Longer than `sorted` when
// none does.
struct Prefix {
  size_t length;
  double mass;
};
Prefix nucleus(const std::vector<Candidate>& sorted, const Peak& peak, double unit, double wanted) {
  double sum = 0;
  for (size_t i = 0; i < sorted.size(); ++i) {
    sum += mass(sorted[i], peak, unit);
    if (sum >= wanted) return {i + 1, sum};
  }
  return {sorted.size() + 1, sum};
}

double total_mass(std::span<const float> logits, const Peak& peak, double unit) {
  double sum = 0;
  for (float logit : logits) sum += std::exp((static_cast<double>(logit) - peak.logit) / unit);
  return sum;
}

// Top-p over the whole vocabulary. The quick sum of all masses decides, and the exact one where its error
// could matter: the result is always the exact one's.
void select_nucleus(const LogitRow& row, const Peak& peak, const SamplingParams& params,
                    std::vector<Candidate>& out) {
  const double unit = params.temperature;
  const double about = params.top_p * row.mass(peak.logit, unit);
  double least = about * (1 - kExpSumError);
  double most = about * (1 + kExpSumError);
  size_t kept = 0;
  gather_until(row, peak.logit, unit, out, [&](auto& found) {
    std::sort(found.begin(), found.end(), likelier);
    Prefix prefix = nucleus(found, peak, unit, least);
    if (!(least <= most) || (prefix.length <= found.size() && prefix.mass < most)) {
      least = most = params.top_p * total_mass(row.logits(), peak, unit);
      prefix = nucleus(found, peak, unit, least);
    }
    kept = prefix.length;
    return kept <= found.size();
  });
  // All tokens are in and rounding still kept the sum below: keep them all.
  out.resize(std::min(out.size(), kept));
}

}  // namespace

bool keeps_all(const SamplingParams& params) {
  return params.top_k == 0 && params.top_p >= 1 && params.min_p <= 0;
}

void select_likeliest(const LogitRow& row, const Peak& peak, size_t count, std::vector<Candidate>& out) {
  const size_t wanted = std::min(count, row.size());
  if (wanted <= row.blocks()) {
    gather(row, nth_largest_peak(row, wanted, out), out);
  } else {
    gather_until(row, peak.logit, 1, out, [wanted](const auto& found) { return found.size() >= wanted; });
  }
  const size_t kept = std::min(wanted, out.size());
  std::partial_sort(out.begin(), out.begin() + kept, out.end(), likelier);
  out.resize(kept);
}

void select_candidates(const LogitRow& row, const Peak& peak, const SamplingParams& params,
                       std::vector<Candidate>& out) {
  const double unit = params.temperature;
  if (params.top_k > 0) {
    select_likeliest(row, peak, params.top_k, out);
    if (params.top_p < 1) {
      double sum = 0;
      for (const Candidate& candidate : out) sum += mass(candidate, peak, unit);
      out.resize(std::min(out.size(), nucleus(out, peak, unit, params.top_p * sum).length));
    }
  } else if (params.top_p < 1) {
    select_nucleus(row, peak, params, out);
  } else if (params.min_p <= 0) {
    gather(row, -std::numeric_limits<float>::max(), out);
    std::sort(out.begin(), out.end(), likelier);
  }
  if (params.min_p > 0) {
    const double least = peak.logit + unit * std::log(static_cast<double>(params.min_p));
    if (params.top_k == 0 && params.top_p >= 1) {
      gather(row, least, out);
    } else {
      std::erase_if(out, [least](const Candidate& candidate) { return candidate.logit < least; });
    }
    std::sort(out.begin(), out.end(), likelier);
  }
}

}  // namespace streamserve
