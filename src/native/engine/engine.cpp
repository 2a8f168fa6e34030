#include "engine/engine.h"

#include <algorithm>
#include <bit>
#include <string>
#include <vector>

#include "error.h"
#include "model/source_digest.h"
#include "source/open.h"

namespace streamserve {
namespace {

// More would only add barriers; no machine that this is meant for has them.
constexpr uint32_t kMostThreads = 256;
constexpr uint64_t kMostKvTokens = uint64_t{1} << 30;

uint32_t thread_count(uint32_t wanted) {
  if (wanted > kMostThreads) {
    throw EngineError(ErrorCode::kArgumentInvalid, "engine.threads is " + std::to_string(wanted) +
                                                       "; at most " + std::to_string(kMostThreads) + ".");
  }
  return wanted == 0 ? std::min(kMostThreads, process_topology().usable()) : wanted;
}

uint32_t context_of(const EngineOptions& options, const ModelConfig& config) {
  if (options.context_tokens > config.context) {
    throw EngineError(ErrorCode::kArgumentInvalid,
                      "engine.contextTokens is " + std::to_string(options.context_tokens) +
                          "; the model was made for " + std::to_string(config.context) + ".");
  }
  return options.context_tokens == 0 ? config.context : options.context_tokens;
}

// Multiply-adds of a token's matrices, over those of its attention to one token of context.
double attention_tokens(const ModelConfig& config) {
  const double heads = double{1} * config.heads * config.head_dim;
  const double kv = double{1} * config.kv_heads * config.head_dim;
  const double matrices = config.embedding * (2 * heads + 2 * kv + 3.0 * config.feed_forward);
  return matrices / (2 * heads);
}

KvLayout layout_of(const EngineOptions& options, const ModelConfig& config) {
  if (options.block_tokens != kKvBlockTokens) {
    throw EngineError(ErrorCode::kArgumentInvalid,
                      "engine.blockTokens is " + std::to_string(options.block_tokens) +
                          "; the kernels work on blocks of " + std::to_string(kKvBlockTokens) + ".");
  }
  KvLayout layout{config.layers, config.kv_heads, config.head_dim, options.block_tokens, options.kv};
  layout.attention_tokens = attention_tokens(config);
  return layout;
}

// What the model says of itself, and what was computed from that: of a safetensors model it lies in no file
// of weights.
void add_settings(const ModelSource& source, Digest& digest) {
  for (const auto& [key, value] : source.metadata()) {
    if (key.starts_with("tokenizer.")) continue;
    digest.add(std::string_view(key));
    if (const auto* truth = std::get_if<bool>(&value)) digest.add(uint64_t{*truth});
    if (const auto* number = std::get_if<uint64_t>(&value)) digest.add(*number);
    if (const auto* number = std::get_if<int64_t>(&value)) digest.add(static_cast<uint64_t>(*number));
    if (const auto* number = std::get_if<double>(&value)) digest.add(std::bit_cast<uint64_t>(*number));
    if (const auto* text = std::get_if<std::string>(&value)) digest.add(std::string_view(*text));
  }
  std::vector<uint8_t> values;
  for (const TensorInfo& tensor : source.tensors()) {
    if (tensor.file != kComputed) continue;
    values.resize(*tensor.bytes);
    source.read(tensor, values);
    digest.add(std::string_view(tensor.name));
    digest.add(std::span<const uint8_t>(values));
  }
}

// What must agree for KV of one process to serve another: the same numbers must come out of the same tokens.
PrefixTierContents tier_contents(const EngineOptions& options, const Model& model, const KvLayout& layout) {
  Digest digest;
  const ModelSource source = open_model_source(options.path);
  digest.add(source_digest(source));
  add_settings(source, digest);
  digest.add(std::string_view(model.kernels().name));
  digest.add(uint64_t{options.exact});
  // RoPE may be scaled by it.
  digest.add(uint64_t{options.context_tokens});
  digest.add(uint64_t{static_cast<uint32_t>(layout.format)});
  digest.add(uint64_t{layout.block_words()});
  return {digest.finish(), layout.block_words() * sizeof(uint16_t), layout.block_tokens};
}

std::unique_ptr<PrefixTier> open_tier(const EngineOptions& options, const Model& model,
                                      const KvLayout& layout, std::string& notice) {
  if (options.tier.directory.empty() || options.tier.most_bytes == 0) return nullptr;
  return PrefixTier::open(options.tier, tier_contents(options, model, layout), notice);
}

uint32_t block_count(const EngineOptions& options) {
  const uint64_t tokens = options.kv_tokens;
  if (tokens < options.block_tokens || tokens > kMostKvTokens) {
    throw EngineError(ErrorCode::kArgumentInvalid, "engine.kvTokens is " + std::to_string(tokens) +
                                                       "; from " + std::to_string(options.block_tokens) +
                                                       " to " + std::to_string(kMostKvTokens) +
                                                       " can be had.");
  }
  return static_cast<uint32_t>(tokens / options.block_tokens);
}

}  // namespace

Engine::Engine(const EngineOptions& options)
    : placement_(place(process_topology(), thread_count(options.threads), options.affinity)),
      model_({options.path,
              options.instruction_set,
              options.exact,
              options.context_tokens,
              {options.cache, options.copy_weights, thread_count(options.threads)}}),
      context_tokens_(context_of(options, model_.config())),
      pool_(layout_of(options, model_.config()), block_count(options),
            open_tier(options, model_, layout_of(options, model_.config()), notice_)) {
  const std::string& weights = model_.weights().memory().notice();
  if (!weights.empty()) notice_ = weights + (notice_.empty() ? "" : " ") + notice_;
  ComputePool::shared().set_cores(thread_count(options.threads));
  if (!ComputePool::shared().set_placement(placement_.cpus)) {
    placement_.description += " (the system refuses to pin)";
  }
}

std::shared_ptr<Lane> Engine::open_lane(const LaneOptions& options) {
  const std::lock_guard guard(lock_);
  auto lane = std::make_shared<Lane>(shared_from_this(), options);
  if (const std::shared_ptr<Lane> earlier = lanes_[options.lane].lock()) earlier->close();
  pool_.reclaim(options.lane);
  lanes_[options.lane] = lane;
  return lane;
}

EngineTable& EngineTable::shared() {
  // Never destroyed: threads may hold engines while the process ends.
  static EngineTable& table = *new EngineTable;
  return table;
}

uint32_t EngineTable::open(const EngineOptions& options, std::shared_ptr<Engine>& engine) {
  {
    const Topology& topology = process_topology();
    const InterleavedMemory memory(
        place(topology, thread_count(options.threads), options.affinity).interleaved, topology);
    engine = std::make_shared<Engine>(options);
  }
  const std::lock_guard guard(lock_);
  const uint32_t id = next_++;
  engines_.emplace(id, engine);
  return id;
}

std::shared_ptr<Engine> EngineTable::find(uint32_t id) {
  const std::lock_guard guard(lock_);
  const auto found = engines_.find(id);
  if (found == engines_.end()) {
    throw EngineError(ErrorCode::kArgumentInvalid, "There is no open engine " + std::to_string(id) + ".");
  }
  return found->second;
}

void EngineTable::close(uint32_t id) {
  std::shared_ptr<Engine> engine;
  const std::lock_guard guard(lock_);
  const auto found = engines_.find(id);
  if (found == engines_.end()) return;
  engine = std::move(found->second);
  engines_.erase(found);
}

}  // namespace streamserve
