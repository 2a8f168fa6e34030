#include "binding/quantise_calls.h"

#include <cstring>
#include <map>
#include <memory>
#include <mutex>

#include "error.h"
#include "quantise/tensor.h"
#include "source/open.h"

namespace streamserve::binding {
namespace {

constexpr uint32_t kAny = ~uint32_t{0};
constexpr uint32_t kMostThreads = 256;

// Open models by number. Lives as long as the process.
class SourceTable {
 public:
  static SourceTable& shared() {
    // Never destroyed, as the table of engines.
    static SourceTable& table = *new SourceTable;
    return table;
  }

  uint32_t open(const std::string& path) {
    auto source = std::make_shared<const ModelSource>(open_model_source(path));
    const std::lock_guard guard(lock_);
    const uint32_t id = next_++;
    sources_.emplace(id, std::move(source));
    return id;
  }
  std::shared_ptr<const ModelSource> find(uint32_t id) {
    const std::lock_guard guard(lock_);
    const auto found = sources_.find(id);
    if (found == sources_.end()) {
      throw EngineError(ErrorCode::kArgumentInvalid, "There is no open model " + std::to_string(id) + ".");
    }
    return found->second;
  }
  void close(uint32_t id) {
    const std::lock_guard guard(lock_);
    sources_.erase(id);
  }

 private:
  std::mutex lock_;
  uint32_t next_ = 1;
  std::map<uint32_t, std::shared_ptr<const ModelSource>> sources_;
};

// openSource(path) -> number
napi_value open_source(Call& call) {
  const uint32_t id = SourceTable::shared().open(call.text(0, "path"));
  try {
    return make_number(call.env(), id);
  } catch (...) {
    // A worker terminated meanwhile: nobody knows the number.
    SourceTable::shared().close(id);
    throw;
  }
}

// closeSource(source)
napi_value close_source(Call& call) {
  SourceTable::shared().close(call.integer(0, "source", 0, kAny));
  return make_undefined(call.env());
}

// quantise(source, tensor, format, importance: Float32Array, threads) -> Uint8Array
napi_value quantise(Call& call) {
  const std::shared_ptr<const ModelSource> source =
      SourceTable::shared().find(call.integer(0, "source", 0, kAny));
  const std::string name = call.text(1, "tensor");
  const TensorInfo* tensor = source->tensor(name);
  if (!tensor) throw EngineError(ErrorCode::kArgumentInvalid, "The model has no tensor " + name + ".");
  const Format format = static_cast<Format>(call.integer(2, "format", 0, kAny));
  const std::span<const float> importance = call.floats(3, "importance");
  const std::vector<uint8_t> bytes =
      quantise_tensor(*source, *tensor, format, importance, call.integer(4, "threads", 1, kMostThreads));
  void* data = nullptr;
  napi_value buffer;
  check(napi_create_arraybuffer(call.env(), bytes.size(), &data, &buffer));
  std::memcpy(data, bytes.data(), bytes.size());
  napi_value array;
  check(napi_create_typedarray(call.env(), napi_uint8_array, bytes.size(), buffer, 0, &array));
  return array;
}

}  // namespace

void export_quantise_calls(napi_env env, napi_value exports) {
  export_function(env, exports, "openSource", entry<open_source>);
  export_function(env, exports, "closeSource", entry<close_source>);
  export_function(env, exports, "quantise", entry<quantise>);
}

}  // namespace streamserve::binding
