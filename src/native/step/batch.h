// The rows of one step.
#pragma once

#include <cstdint>
#include <vector>

#include "kv/sequence.h"

namespace streamserve {

enum class Failure : uint8_t { kNone, kLogitsNotFinite, kOutOfMemory };

struct BatchRow {
  Sequence* sequence = nullptr;
  // Tokens in the KV before the step; the row's own are behind them in sequence->tokens.
  uint32_t base = 0;
  uint32_t tokens = 0;
  // How many of the tokens, at the end, are drafts.
  uint32_t drafts = 0;
  // Positions whose logits are wanted, at the end: drafts + 1, or none.
  uint32_t logits = 0;
  // Where the row's tokens and logits begin among the batch's.
  uint32_t first_token = 0;
  uint32_t first_logits = 0;
  // Instead of drawing: where log-probabilities of the whole vocabulary go, for each position with logits.
  float* scores = nullptr;
  // What came of it: a draw for each position up to the first that is a stop id or differs from its draft.
  std::vector<Draw> draws{};
  uint32_t accepted = 0;
  int32_t logprobs = -1;  // as the sequence's sampling asks
  Failure failure = Failure::kNone;
};

struct Batch {
  std::vector<BatchRow> rows;
  uint32_t tokens = 0;
  uint32_t logits = 0;
};

}  // namespace streamserve
