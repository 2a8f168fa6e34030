// What belongs to one JavaScript environment (the main thread or a worker): the engines, lanes and tokenizers
// that it opened.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "binding/call.h"
#include "engine/engine.h"
#include "text/byte_pairs.h"

namespace streamserve::binding {

// When the environment ends, its lanes wait for their running steps and give back what they own, and its
// engines are closed: a worker may be terminated at any time.
class Environment {
 public:
  Environment() = default;
  ~Environment();
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  // Attaches a new one to `env`.
  static void attach(napi_env env);
  static Environment& of(napi_env env);

  // `engine` is open, and is to be closed at the latest when this ends; other threads' lanes keep it until
  // they close.
  void own_engine(uint32_t engine);
  // It has been closed.
  void forget_engine(uint32_t engine);

  uint32_t add(std::shared_ptr<Lane> lane);
  // Throws `stale_handle`.
  Lane& lane(uint32_t id) const;
  void close(uint32_t id);

  // They live as long as the environment.
  uint32_t add(std::unique_ptr<BytePairs> pairs);
  // Throws `stale_handle`.
  BytePairs& byte_pairs(uint32_t id) const;

  // Reused by calls, so that a step allocates nothing.
  std::vector<int32_t> packed;
  std::vector<RowRequest> rows;

 private:
  uint32_t next_ = 1;
  std::set<uint32_t> engines_;
  std::map<uint32_t, std::shared_ptr<Lane>> lanes_;
  std::map<uint32_t, std::unique_ptr<BytePairs>> byte_pairs_;
};

}  // namespace streamserve::binding
