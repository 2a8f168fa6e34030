// The kinds of work that a step is made of.
#pragma once

#include <cstddef>
#include <cstdint>

namespace streamserve {

enum class Operation : uint8_t {
  kEmbed,
  kPackAttentionInput,
  kProject,
  kRotate,
  kAttend,
  kPackAttended,
  kAttentionOut,
  kPackFeedInput,
  kGateUp,
  kPackGated,
  kDown,
  kRoute,
  kChoose,
  kPackExperts,
  kExpertsGateUp,
  kPackExpertsGated,
  kExpertsDown,
  kPackHeadInput,
  kHead,
  kSample,
};
inline constexpr size_t kOperations = static_cast<size_t>(Operation::kSample) + 1;

// For people.
const char* operation_name(Operation operation);

}  // namespace streamserve
