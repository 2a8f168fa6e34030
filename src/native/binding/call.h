// One call from JavaScript: its arguments, checked, and the way back. Plain Node-API, without the C++
// wrapper's exceptions and persistent references: while a worker is being terminated those abort the process.
#pragma once

#include <node_api.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace streamserve::binding {

// A JavaScript exception is pending in the environment: unwinds to the entry point, which returns.
struct JavaScriptPending {};

// Throws JavaScriptPending or EngineError unless `status` is napi_ok.
void check(napi_status status);

class Call {
 public:
  Call(napi_env env, napi_callback_info info);

  napi_env env() const { return env_; }
  // Each throws EngineError `native_argument_invalid`, naming the argument, when it is of another kind or out
  // of range. Spans are valid until the call returns or runs JavaScript.
  std::string text(size_t index, const char* name) const;
  double number(size_t index, const char* name) const;
  uint32_t integer(size_t index, const char* name, uint32_t least, uint32_t most) const;
  bool flag(size_t index, const char* name) const;
  std::span<const uint8_t> bytes(size_t index, const char* name) const;
  std::span<int32_t> int32s(size_t index, const char* name) const;
  std::span<uint32_t> uint32s(size_t index, const char* name) const;
  std::span<float> floats(size_t index, const char* name) const;
  std::span<double> doubles(size_t index, const char* name) const;

 private:
  napi_value at(size_t index) const { return index < count_ ? arguments_[index] : nullptr; }
  std::span<uint8_t> typed(size_t index, const char* name, napi_typedarray_type type,
                           const char* wanted) const;

  static constexpr size_t kMostArguments = 14;
  napi_env env_;
  size_t count_ = kMostArguments;
  napi_value arguments_[kMostArguments];
};

napi_value make_undefined(napi_env env);
napi_value make_number(napi_env env, double value);
napi_value make_flag(napi_env env, bool value);
// UTF-8; what is not valid becomes U+FFFD.
napi_value make_text(napi_env env, std::string_view value);
napi_value make_object(napi_env env);
napi_value make_array(napi_env env, size_t length);
void set(napi_env env, napi_value object, const char* key, napi_value value);
void set(napi_env env, napi_value array, uint32_t index, napi_value value);

// Runs `body` and turns every C++ exception into a JavaScript error with a code.
napi_value guarded(napi_env env, napi_callback_info info, napi_value (*body)(Call&)) noexcept;

template <napi_value (*Body)(Call&)>
napi_value entry(napi_env env, napi_callback_info info) noexcept {
  return guarded(env, info, Body);
}

void export_function(napi_env env, napi_value exports, const char* name, napi_callback function);

}  // namespace streamserve::binding
