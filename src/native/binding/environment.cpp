#include "binding/environment.h"

#include <string>

#include "error.h"

namespace streamserve::binding {
namespace {

template <class Opened>
auto& open_in(const Opened& opened, uint32_t id, const char* what) {
  const auto found = opened.find(id);
  if (found == opened.end()) {
    throw EngineError(ErrorCode::kStaleHandle,
                      std::string(what) + " number " + std::to_string(id) + " is not open on this thread.");
  }
  return *found->second;
}

}  // namespace

Environment::~Environment() {
  // Closed while the engine still finds them: who opens a lane's number anew must wait for its step, and is
  // not to lose sequences to a lane that closes late.
  for (const auto& [id, lane] : lanes_) lane->close();
  for (const uint32_t engine : engines_) EngineTable::shared().close(engine);
}

void Environment::attach(napi_env env) {
  auto environment = std::make_unique<Environment>();
  const auto destroy = [](napi_env, void* data, void*) { delete static_cast<Environment*>(data); };
  check(napi_set_instance_data(env, environment.get(), destroy, nullptr));
  // Node-API owns it now.
  static_cast<void>(environment.release());
}

Environment& Environment::of(napi_env env) {
  void* data = nullptr;
  check(napi_get_instance_data(env, &data));
  if (!data) throw EngineError(ErrorCode::kInternal, "The addon has no state in this environment.");
  return *static_cast<Environment*>(data);
}

void Environment::own_engine(uint32_t engine) { engines_.insert(engine); }

void Environment::forget_engine(uint32_t engine) { engines_.erase(engine); }

uint32_t Environment::add(std::shared_ptr<Lane> lane) {
  lanes_.emplace(next_, std::move(lane));
  return next_++;
}

Lane& Environment::lane(uint32_t id) const { return open_in(lanes_, id, "Lane"); }

uint32_t Environment::add(std::unique_ptr<BytePairs> pairs) {
  byte_pairs_.emplace(next_, std::move(pairs));
  return next_++;
}

BytePairs& Environment::byte_pairs(uint32_t id) const { return open_in(byte_pairs_, id, "Tokenizer"); }

void Environment::close(uint32_t id) {
  const auto found = lanes_.find(id);
  if (found == lanes_.end()) return;
  found->second->close();
  lanes_.erase(found);
}

}  // namespace streamserve::binding
