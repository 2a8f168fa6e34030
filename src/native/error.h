// Failures that reach JavaScript with a stable code (src/errors.ts). Thrown inside the engine alone: the
// binding catches every exception and turns it into a JavaScript error.
#pragma once

#include <stdexcept>
#include <string>

namespace streamserve {

enum class ErrorCode {
  kModelNotFound,
  kModelFileTruncated,
  kModelFileInvalid,
  kModelArchitectureUnsupported,
  kModelFormatUnsupported,
  kArgumentInvalid,
  kStaleHandle,
  kKvExhausted,
  kOutOfMemory,
  kInternal,
};

// The code as JavaScript sees it.
const char* code_name(ErrorCode code);

class EngineError : public std::runtime_error {
 public:
  EngineError(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace streamserve
