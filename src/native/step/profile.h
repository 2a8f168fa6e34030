// Where the time of one step went, and what it was spent on.
#pragma once

#include <array>
#include <cstdint>

#include "step/operation.h"

namespace streamserve {

// Work as the model's shapes demand it. Bytes count once a step and operation, however often caches serve
// them again.
struct Work {
  uint64_t weight_bytes = 0;      // as packed
  uint64_t kv_bytes = 0;          // read or written
  uint64_t activation_bytes = 0;  // read and written; most of them never leave the caches
  uint64_t integer_macs = 0;      // multiply-accumulates by the int8 kernels
  uint64_t float_macs = 0;        // and by those in f32

  Work& operator+=(const Work& other) {
    weight_bytes += other.weight_bytes;
    kv_bytes += other.kv_bytes;
    activation_bytes += other.activation_bytes;
    integer_macs += other.integer_macs;
    float_macs += other.float_macs;
    return *this;
  }
};

struct OperationCost {
  uint32_t regions = 0;  // that it ran in; 0: not part of the step
  int64_t ns = 0;
  Work work;
};

// By Operation. The times add up to the step's compute time.
using StepProfile = std::array<OperationCost, kOperations>;

}  // namespace streamserve
