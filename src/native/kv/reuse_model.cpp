#include "kv/reuse_model.h"

#include <algorithm>
#include <bit>

namespace streamserve {
namespace {

// Share of what was learnt that each refresh keeps.
constexpr double kKeep = 0.95;
// A class without evidence is taken to be like this many of its blocks: a tenth of them reused, soon.
constexpr double kPriorLives = 4;
constexpr double kPriorReused = 0.1;
constexpr uint64_t kOldest = 0x7fffff;

using Hazard = std::array<double, ReuseModel::kAges>;

// The most reuses per unit of time of waiting from bucket `from` on, over all moments to stop at.
double best_bet(const Hazard& hazard, uint32_t from) {
  double alive = 1;
  double reuses = 0;
  double time = 0;
  double best = 0;
  for (uint32_t b = from; b < ReuseModel::kAges; ++b) {
    const double width = static_cast<double>(uint64_t{1} << (b >> 1));
    reuses += alive * hazard[b];
    time += alive * (1 - hazard[b] / 2) * width;
    alive *= 1 - hazard[b];
    best = std::max(best, reuses / time);
  }
  return best;
}

}  // namespace

uint32_t ReuseModel::bucket(uint64_t age) {
  const auto n = static_cast<uint32_t>(std::min(age, kOldest) + 2);
  const auto octave = static_cast<uint32_t>(std::bit_width(n) - 1);
  return std::min(kAges - 1, 2 * (octave - 1) + ((n >> (octave - 1)) & 1));
}

ReuseModel::ReuseModel(uint32_t classes)
    : classes_(classes),
      reused_(size_t{classes} * kAges),
      lost_(size_t{classes} * kAges),
      worth_(size_t{classes} * kAges) {
  refresh(lost_);
}

void ReuseModel::refresh(std::span<const double> waiting) {
  for (uint32_t kind = 0; kind < classes_; ++kind) {
    const size_t base = size_t{kind} * kAges;
    Hazard hazard;
    double at_risk = 0;
    for (uint32_t b = kAges; b-- > 0;) {
      const double prior = b == 0 ? kPriorLives : 0;
      at_risk += reused_[base + b] + lost_[base + b] + waiting[base + b] + prior;
      hazard[b] = (reused_[base + b] + prior * kPriorReused) / std::max(at_risk, 1e-9);
    }
    for (uint32_t b = 0; b < kAges; ++b) worth_[base + b] = best_bet(hazard, b);
    for (uint32_t b = 0; b < kAges; ++b) {
      reused_[base + b] *= kKeep;
      lost_[base + b] *= kKeep;
    }
  }
}

}  // namespace streamserve
