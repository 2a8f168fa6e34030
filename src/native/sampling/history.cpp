#include "sampling/history.h"

namespace streamserve {

void History::add_prompt(std::span<const uint32_t> tokens) {
  if (!penalises_) return;
  for (uint32_t token : tokens) seen_[token].in_prompt = true;
}

void History::add_output(uint32_t token) {
  // First what may throw.
  if (penalises_) ++seen_[token].outputs;
  ++outputs_;
}

void History::remove_output(uint32_t token) {
  --outputs_;
  const auto at = seen_.find(token);
  if (at != seen_.end() && --at->second.outputs == 0 && !at->second.in_prompt) seen_.erase(at);
}

void History::penalise(LogitRow& row) const {
  // Each token's change depends on that token alone, so the map's order does not show.
  for (const auto& [token, seen] : seen_) {
    if (token >= row.size()) continue;
    float logit = row[token];
    if (repetition_ != 1) logit = logit > 0 ? logit / repetition_ : logit * repetition_;
    if (seen.outputs > 0) logit -= presence_ + frequency_ * static_cast<float>(seen.outputs);
    row.set(token, logit);
  }
}

}  // namespace streamserve
