#include "step/operation.h"

namespace streamserve {

const char* operation_name(Operation operation) {
  switch (operation) {
    case Operation::kEmbed:
      return "embed";
    case Operation::kPackAttentionInput:
      return "norm, pack for attention";
    case Operation::kProject:
      return "q, k, v";
    case Operation::kRotate:
      return "rotate, store k, v";
    case Operation::kAttend:
      return "attention";
    case Operation::kPackAttended:
      return "pack attention's result";
    case Operation::kAttentionOut:
      return "attention out";
    case Operation::kPackFeedInput:
      return "norm, pack for feed-forward";
    case Operation::kGateUp:
      return "gate, up";
    case Operation::kPackGated:
      return "gate's function, pack";
    case Operation::kDown:
      return "down";
    case Operation::kRoute:
      return "router";
    case Operation::kChoose:
      return "choose experts";
    case Operation::kPackExperts:
      return "pack for experts";
    case Operation::kExpertsGateUp:
      return "experts' gate, up";
    case Operation::kPackExpertsGated:
      return "experts' gate's function, pack";
    case Operation::kExpertsDown:
      return "experts' down";
    case Operation::kPackHeadInput:
      return "norm, pack for logits";
    case Operation::kHead:
      return "logits";
    case Operation::kSample:
      return "draw";
  }
  return "";
}

}  // namespace streamserve
