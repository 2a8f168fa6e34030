#include "binding/metadata.h"

#include <cstring>

#include "error.h"
#include "source/open.h"

namespace streamserve::binding {
namespace {

constexpr uint64_t kMostExact = uint64_t{1} << 53;

napi_value make_value(napi_env env, bool value) { return make_flag(env, value); }
napi_value make_value(napi_env env, double value) { return make_number(env, value); }
napi_value make_value(napi_env env, const std::string& value) { return make_text(env, value); }

napi_value make_value(napi_env env, uint64_t value) {
  if (value <= kMostExact) return make_number(env, static_cast<double>(value));
  napi_value big;
  check(napi_create_bigint_uint64(env, value, &big));
  return big;
}

napi_value make_value(napi_env env, int64_t value) {
  if (value >= -static_cast<int64_t>(kMostExact) && value <= static_cast<int64_t>(kMostExact)) {
    return make_number(env, static_cast<double>(value));
  }
  napi_value big;
  check(napi_create_bigint_int64(env, value, &big));
  return big;
}

napi_typedarray_type typed_array_of(MetadataType type) {
  switch (type) {
    case MetadataType::kInt8:
      return napi_int8_array;
    case MetadataType::kUint16:
      return napi_uint16_array;
    case MetadataType::kInt16:
      return napi_int16_array;
    case MetadataType::kUint32:
      return napi_uint32_array;
    case MetadataType::kInt32:
      return napi_int32_array;
    case MetadataType::kFloat32:
      return napi_float32_array;
    case MetadataType::kUint64:
      return napi_biguint64_array;
    case MetadataType::kInt64:
      return napi_bigint64_array;
    case MetadataType::kFloat64:
      return napi_float64_array;
    default:
      return napi_uint8_array;
  }
}

napi_value make_typed(napi_env env, napi_typedarray_type type, const void* from, size_t count, size_t width) {
  void* data = nullptr;
  napi_value buffer;
  check(napi_create_arraybuffer(env, count * width, &data, &buffer));
  if (count > 0) std::memcpy(data, from, count * width);
  napi_value typed;
  check(napi_create_typedarray(env, type, count, buffer, 0, &typed));
  return typed;
}

napi_value make_value(napi_env env, const NumberArray& array) {
  const size_t width = array.count == 0 ? 1 : array.bytes.size() / array.count;
  return make_typed(env, typed_array_of(array.type), array.bytes.data(), array.count, width);
}

// As it lies here, end to end: a vocabulary has tens of thousands of strings, which JavaScript makes as it
// needs them.
napi_value make_value(napi_env env, const StringArray& array) {
  // The text of one array is far below 4 GiB (gguf/values.cpp).
  const std::vector<uint32_t> ends(array.ends.begin(), array.ends.end());
  napi_value list = make_object(env);
  set(env, list, "bytes", make_typed(env, napi_uint8_array, array.text.data(), array.text.size(), 1));
  set(env, list, "ends", make_typed(env, napi_uint32_array, ends.data(), ends.size(), sizeof(uint32_t)));
  return list;
}

napi_value make_tensor(napi_env env, const TensorInfo& tensor) {
  napi_value shape = make_array(env, tensor.dimensions);
  for (uint32_t d = 0; d < tensor.dimensions; ++d) set(env, shape, d, make_value(env, tensor.shape[d]));
  napi_value entry = make_array(env, 4);
  set(env, entry, 0u, make_text(env, tensor.name));
  set(env, entry, 1u, make_text(env, format_name(tensor.format)));
  set(env, entry, 2u, shape);
  set(env, entry, 3u, make_value(env, tensor.bytes.value_or(0)));
  return entry;
}

}  // namespace

napi_value read_metadata(Call& call) {
  const ModelSource source = open_model_source(call.text(0, "path"));
  napi_env env = call.env();
  napi_value entries = make_array(env, source.metadata().size());
  uint32_t next = 0;
  for (const auto& [key, value] : source.metadata()) {
    napi_value entry = make_array(env, 3);
    set(env, entry, 0u, make_text(env, key));
    set(env, entry, 1u, std::visit([env](const auto& held) { return make_value(env, held); }, value));
    set(env, entry, 2u, make_number(env, static_cast<uint32_t>(source.metadata_types()[next])));
    set(env, entries, next++, entry);
  }
  napi_value tensors = make_array(env, source.tensors().size());
  next = 0;
  for (const TensorInfo& tensor : source.tensors()) set(env, tensors, next++, make_tensor(env, tensor));
  napi_value result = make_object(env);
  set(env, result, "version", make_number(env, source.gguf_version));
  set(env, result, "entries", entries);
  set(env, result, "tensors", tensors);
  return result;
}

}  // namespace streamserve::binding
