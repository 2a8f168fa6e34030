#include "binding/call.h"

#include <cmath>
#include <new>

#include "error.h"

namespace streamserve::binding {
namespace {

// Paths are the only strings passed in.
constexpr size_t kMostTextBytes = 1 << 16;

[[noreturn]] void invalid(const char* name, const std::string& what) {
  throw EngineError(ErrorCode::kArgumentInvalid, std::string("The argument ") + name + " " + what + ".");
}

void throw_error(napi_env env, const char* code, const char* message) {
  bool pending = false;
  if (napi_is_exception_pending(env, &pending) == napi_ok && !pending) napi_throw_error(env, code, message);
}

}  // namespace

void check(napi_status status) {
  if (status == napi_ok) return;
  // Covers a terminating worker too, where JavaScript can no longer run.
  if (status == napi_pending_exception || status == napi_cannot_run_js || status == napi_closing) {
    throw JavaScriptPending{};
  }
  throw EngineError(ErrorCode::kInternal, "Node-API call failed with status " + std::to_string(status) + ".");
}

Call::Call(napi_env env, napi_callback_info info) : env_(env) {
  check(napi_get_cb_info(env, info, &count_, arguments_, nullptr, nullptr));
  if (count_ > kMostArguments) count_ = kMostArguments;
}

std::string Call::text(size_t index, const char* name) const {
  size_t bytes = 0;
  if (!at(index) || napi_get_value_string_utf8(env_, at(index), nullptr, 0, &bytes) != napi_ok) {
    invalid(name, "is not a string");
  }
  if (bytes > kMostTextBytes) invalid(name, "is longer than " + std::to_string(kMostTextBytes) + " bytes");
  std::string text(bytes + 1, '\0');
  check(napi_get_value_string_utf8(env_, at(index), text.data(), text.size(), &bytes));
  text.resize(bytes);
  return text;
}

double Call::number(size_t index, const char* name) const {
  double value = 0;
  if (!at(index) || napi_get_value_double(env_, at(index), &value) != napi_ok)
    invalid(name, "is not a number");
  return value;
}

uint32_t Call::integer(size_t index, const char* name, uint32_t least, uint32_t most) const {
  const double value = number(index, name);
  if (!(value >= least && value <= most) || value != std::floor(value)) {
    invalid(name, "is not a whole number from " + std::to_string(least) + " to " + std::to_string(most));
  }
  return static_cast<uint32_t>(value);
}

bool Call::flag(size_t index, const char* name) const {
  bool value = false;
  if (!at(index) || napi_get_value_bool(env_, at(index), &value) != napi_ok)
    invalid(name, "is not a boolean");
  return value;
}

std::span<uint8_t> Call::typed(size_t index, const char* name, napi_typedarray_type type,
                               const char* wanted) const {
  napi_typedarray_type actual;
  size_t length = 0;
  void* data = nullptr;
  bool is_typed = false;
  if (!at(index) || napi_is_typedarray(env_, at(index), &is_typed) != napi_ok || !is_typed ||
      napi_get_typedarray_info(env_, at(index), &actual, &length, &data, nullptr, nullptr) != napi_ok ||
      actual != type) {
    invalid(name, std::string("is not ") + wanted);
  }
  // A detached buffer has no data.
  return {static_cast<uint8_t*>(data), data ? length : 0};
}

std::span<const uint8_t> Call::bytes(size_t index, const char* name) const {
  return typed(index, name, napi_uint8_array, "a Uint8Array");
}

std::span<int32_t> Call::int32s(size_t index, const char* name) const {
  const auto raw = typed(index, name, napi_int32_array, "an Int32Array");
  return {reinterpret_cast<int32_t*>(raw.data()), raw.size()};
}

std::span<uint32_t> Call::uint32s(size_t index, const char* name) const {
  const auto raw = typed(index, name, napi_uint32_array, "a Uint32Array");
  return {reinterpret_cast<uint32_t*>(raw.data()), raw.size()};
}

std::span<float> Call::floats(size_t index, const char* name) const {
  const auto raw = typed(index, name, napi_float32_array, "a Float32Array");
  return {reinterpret_cast<float*>(raw.data()), raw.size()};
}

std::span<double> Call::doubles(size_t index, const char* name) const {
  const auto raw = typed(index, name, napi_float64_array, "a Float64Array");
  return {reinterpret_cast<double*>(raw.data()), raw.size()};
}

napi_value make_undefined(napi_env env) {
  napi_value value;
  check(napi_get_undefined(env, &value));
  return value;
}

napi_value make_number(napi_env env, double number) {
  napi_value value;
  check(napi_create_double(env, number, &value));
  return value;
}

napi_value make_flag(napi_env env, bool flag) {
  napi_value value;
  check(napi_get_boolean(env, flag, &value));
  return value;
}

napi_value make_text(napi_env env, std::string_view text) {
  napi_value value;
  check(napi_create_string_utf8(env, text.data(), text.size(), &value));
  return value;
}

napi_value make_object(napi_env env) {
  napi_value value;
  check(napi_create_object(env, &value));
  return value;
}

napi_value make_array(napi_env env, size_t length) {
  napi_value value;
  check(napi_create_array_with_length(env, length, &value));
  return value;
}

void set(napi_env env, napi_value object, const char* key, napi_value value) {
  check(napi_set_named_property(env, object, key, value));
}

void set(napi_env env, napi_value array, uint32_t index, napi_value value) {
  check(napi_set_element(env, array, index, value));
}

napi_value guarded(napi_env env, napi_callback_info info, napi_value (*body)(Call&)) noexcept {
  try {
    Call call(env, info);
    return body(call);
  } catch (const JavaScriptPending&) {
  } catch (const EngineError& error) {
    throw_error(env, code_name(error.code()), error.what());
  } catch (const std::bad_alloc&) {
    throw_error(env, code_name(ErrorCode::kOutOfMemory), "The native engine ran out of memory.");
  } catch (const std::exception& error) {
    throw_error(env, code_name(ErrorCode::kInternal), error.what());
  }
  return nullptr;
}

void export_function(napi_env env, napi_value exports, const char* name, napi_callback function) {
  napi_value value;
  check(napi_create_function(env, name, NAPI_AUTO_LENGTH, function, nullptr, &value));
  set(env, exports, name, value);
}

}  // namespace streamserve::binding
