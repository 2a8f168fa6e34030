// Working memory that a thread has for itself: what one operation of a chunk leaves there for the next stays
// in the core's own caches.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>

#include "compute/aligned.h"
#include "model/model.h"
#include "step/operation.h"
#include "step/panels.h"

namespace streamserve {

// What a thread spent on each operation since it was asked last. Runs only where steps are profiled.
class OperationClock {
 public:
  using Times = std::array<int64_t, kOperations>;

  void start(bool running) {
    running_ = running;
    if (running) last_ns_ = now_ns();
  }
  // What went by since the last call, or the start, was spent on `operation`.
  void lap(Operation operation) {
    if (!running_) return;
    const int64_t now = now_ns();
    times_[static_cast<size_t>(operation)] += now - last_ns_;
    last_ns_ = now;
  }
  void take(Times& into) {
    for (size_t i = 0; i < kOperations; ++i) into[i] += times_[i];
    times_ = {};
  }

 private:
  static int64_t now_ns() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

  bool running_ = false;
  int64_t last_ns_ = 0;
  Times times_{};
};

struct Workspace {
  // Room for `tokens` tokens packed, and for a slice of gate and up of `feed_tokens`.
  Workspace(const Model& model, uint32_t tokens, uint32_t feed_tokens);

  Panels panels_of(Tokens some) const { return {panels.get(), panel_bytes, some}; }

  uint32_t tokens;
  size_t panel_bytes;
  AlignedArray<uint8_t> panels;  // as Panels has them
  AlignedArray<uint8_t> gated;   // the packed input of a down matrix
  AlignedArray<float> feed;      // a slice of gate and up: see gated.h
  AlignedArray<float> rows;      // [token][embedding]
  // Which input the panels hold: a number that its chunks share, and no others ever.
  uint64_t packed = 0;
  OperationClock clock;
};

}  // namespace streamserve
