#include "error.h"

namespace streamserve {

const char* code_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::kModelNotFound:
      return "model_not_found";
    case ErrorCode::kModelFileTruncated:
      return "model_file_truncated";
    case ErrorCode::kModelFileInvalid:
      return "model_file_invalid";
    case ErrorCode::kModelArchitectureUnsupported:
      return "model_architecture_unsupported";
    case ErrorCode::kModelFormatUnsupported:
      return "model_format_unsupported";
    case ErrorCode::kArgumentInvalid:
      return "native_argument_invalid";
    case ErrorCode::kStaleHandle:
      return "stale_handle";
    case ErrorCode::kKvExhausted:
      return "kv_exhausted";
    case ErrorCode::kOutOfMemory:
      return "out_of_memory";
    case ErrorCode::kInternal:
      return "internal";
  }
  return "internal";
}

}  // namespace streamserve
