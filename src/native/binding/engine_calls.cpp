#include "binding/engine_calls.h"

#include <cmath>

#include "binding/environment.h"
#include "binding/sequence_calls.h"
#include "binding/step_calls.h"
#include "error.h"

namespace streamserve::binding {
namespace {

constexpr uint32_t kAny = ~uint32_t{0};
// Bounds what a lane's buffers may take; far above any use.
constexpr uint32_t kMostRows = 4096;
constexpr uint32_t kMostBatchTokens = 65536;
constexpr uint32_t kMostLanes = 65536;
// Exact in a double; no disk comes near.
constexpr double kMostCacheBytes = 9007199254740992;

const char* origin_name(WeightOrigin origin) {
  switch (origin) {
    case WeightOrigin::kPacked:
      return "packed";
    case WeightOrigin::kStored:
      return "stored";
    case WeightOrigin::kCache:
      return "cache";
  }
  return "packed";
}

const char* kv_name(KvFormat format) {
  switch (format) {
    case KvFormat::kFloat16:
      return "f16";
    case KvFormat::kBFloat16:
      return "bf16";
    case KvFormat::kInt8:
      return "int8";
  }
  return "f16";
}

KvFormat kv_format(const std::string& name) {
  for (const KvFormat format : {KvFormat::kFloat16, KvFormat::kBFloat16, KvFormat::kInt8}) {
    if (name == kv_name(format)) return format;
  }
  throw EngineError(ErrorCode::kArgumentInvalid,
                    "engine.kv is \"" + name + "\"; it can be \"f16\", \"bf16\" or \"int8\".");
}

napi_value make_info(napi_env env, uint32_t id, Engine& engine) {
  const Model& model = engine.model();
  const ModelConfig& config = model.config();
  napi_value info = make_object(env);
  const auto number = [&](const char* name, double value) { set(env, info, name, make_number(env, value)); };
  number("id", id);
  set(env, info, "architecture", make_text(env, config.architecture));
  number("vocabulary", config.vocabulary);
  number("contextTokens", engine.context_tokens());
  number("layers", config.layers);
  number("embedding", config.embedding);
  number("feedForward", config.feed_forward);
  number("heads", config.heads);
  number("kvHeads", config.kv_heads);
  number("headDim", config.head_dim);
  number("blockTokens", engine.pool().layout().block_tokens);
  number("weightBytes", static_cast<double>(model.weights().memory().size()));
  set(env, info, "kv", make_text(env, kv_name(engine.pool().layout().format)));
  number("kvBytes", static_cast<double>(engine.pool().bytes()));
  set(env, info, "weightsFrom", make_text(env, origin_name(model.weights().memory().origin())));
  set(env, info, "notice", make_text(env, engine.notice()));
  set(env, info, "instructionSet", make_text(env, model.kernels().name));
  number("threads", ComputePool::shared().cores());
  set(env, info, "placement", make_text(env, engine.placement().description));
  return info;
}

uint64_t file_bytes(Call& call, size_t index, const char* name) {
  const double bytes = call.number(index, name);
  if (!(bytes >= 0 && bytes <= kMostCacheBytes)) {
    throw EngineError(ErrorCode::kArgumentInvalid, std::string(name) + " is out of range.");
  }
  return static_cast<uint64_t>(bytes);
}

// openEngine(path, instructionSet, kvTokens, blockTokens, threads, contextTokens, exact, cacheDirectory,
// cacheBytes, copyWeights, kv, affinity, tierDirectory, tierBytes) -> info
napi_value open_engine(Call& call) {
  EngineOptions options;
  options.path = call.text(0, "path");
  options.instruction_set = call.text(1, "instructionSet");
  options.kv_tokens = call.integer(2, "kvTokens", 0, kAny);
  options.block_tokens = call.integer(3, "blockTokens", 1, kAny);
  options.threads = call.integer(4, "threads", 0, kAny);
  options.context_tokens = call.integer(5, "contextTokens", 0, kAny);
  options.exact = call.flag(6, "exact");
  options.cache.directory = call.text(7, "cacheDirectory");
  options.cache.most_bytes = file_bytes(call, 8, "cacheBytes");
  if (options.cache.most_bytes == 0) options.cache.directory.clear();
  options.copy_weights = call.flag(9, "copyWeights");
  options.kv = kv_format(call.text(10, "kv"));
  options.affinity = affinity_of(call.text(11, "affinity"));
  options.tier.directory = call.text(12, "tierDirectory");
  options.tier.most_bytes = file_bytes(call, 13, "tierBytes");
  std::shared_ptr<Engine> engine;
  const uint32_t id = EngineTable::shared().open(options, engine);
  try {
    Environment::of(call.env()).own_engine(id);
    return make_info(call.env(), id, *engine);
  } catch (...) {
    // A worker terminated meanwhile: nobody knows the number.
    EngineTable::shared().close(id);
    throw;
  }
}

// closeEngine(engine)
napi_value close_engine(Call& call) {
  const uint32_t id = call.integer(0, "engine", 0, kAny);
  EngineTable::shared().close(id);
  Environment::of(call.env()).forget_engine(id);
  return make_undefined(call.env());
}

// openLane(engine, lane, decode, maxRows, maxBatchTokens, profile) -> number of the open lane, on this thread
napi_value open_lane(Call& call) {
  const std::shared_ptr<Engine> engine = EngineTable::shared().find(call.integer(0, "engine", 0, kAny));
  LaneOptions options;
  options.lane = call.integer(1, "lane", 0, kMostLanes);
  options.role = call.flag(2, "decode") ? LaneRole::kDecode : LaneRole::kPrefill;
  options.max_rows = call.integer(3, "maxRows", 1, kMostRows);
  options.max_batch_tokens = call.integer(4, "maxBatchTokens", 1, kMostBatchTokens);
  options.profile = call.flag(5, "profile");
  return make_number(call.env(), Environment::of(call.env()).add(engine->open_lane(options)));
}

// closeLane(lane)
napi_value close_lane(Call& call) {
  Environment::of(call.env()).close(call.integer(0, "lane", 0, kAny));
  return make_undefined(call.env());
}

// kv(engine, out: Float64Array(8)): total, free, cached, used, sequences, prefix hits, misses, evictions
napi_value kv(Call& call) {
  const KvCounts counts = EngineTable::shared().find(call.integer(0, "engine", 0, kAny))->pool().counts();
  const std::span<double> out = call.doubles(1, "out");
  if (out.size() < 8) throw EngineError(ErrorCode::kArgumentInvalid, "kv() needs room for eight counts.");
  out[0] = counts.total;
  out[1] = counts.free;
  out[2] = counts.cached;
  out[3] = counts.used;
  out[4] = counts.sequences;
  out[5] = static_cast<double>(counts.prefix_hits);
  out[6] = static_cast<double>(counts.prefix_misses);
  out[7] = static_cast<double>(counts.prefix_evictions);
  return make_undefined(call.env());
}

// prefixTier(engine, out: Float64Array(6)): slots, held, read, written, dropped, damaged
napi_value prefix_tier(Call& call) {
  const PrefixTierCounts counts =
      EngineTable::shared().find(call.integer(0, "engine", 0, kAny))->pool().tier_counts();
  const std::span<double> out = call.doubles(1, "out");
  if (out.size() < 6) {
    throw EngineError(ErrorCode::kArgumentInvalid, "prefixTier() needs room for six counts.");
  }
  size_t at = 0;
  for (const uint64_t count :
       {counts.slots, counts.held, counts.read, counts.written, counts.dropped, counts.damaged}) {
    out[at++] = static_cast<double>(count);
  }
  return make_undefined(call.env());
}

// setTokenTime(engine, ns): what computing a prompt's token takes
napi_value set_token_time(Call& call) {
  const double ns = call.number(1, "ns");
  if (!(ns >= 0)) throw EngineError(ErrorCode::kArgumentInvalid, "ns is out of range.");
  EngineTable::shared().find(call.integer(0, "engine", 0, kAny))->pool().set_token_ns(ns);
  return make_undefined(call.env());
}

}  // namespace

void export_engine_calls(napi_env env, napi_value exports) {
  export_function(env, exports, "openEngine", entry<open_engine>);
  export_function(env, exports, "closeEngine", entry<close_engine>);
  export_function(env, exports, "openLane", entry<open_lane>);
  export_function(env, exports, "closeLane", entry<close_lane>);
  export_function(env, exports, "kv", entry<kv>);
  export_function(env, exports, "prefixTier", entry<prefix_tier>);
  export_function(env, exports, "setTokenTime", entry<set_token_time>);
  export_sequence_calls(env, exports);
  export_step_calls(env, exports);
}

}  // namespace streamserve::binding
