#include "step/forward.h"

#include <algorithm>

#include "step/share.h"

namespace streamserve {
namespace {

// Up to so many tokens, packing them costs a thread less than sharing the work and waiting for each other.
constexpr uint32_t kPackAlone = 16;
// Tokens of a block: at least so many a core, that reading the weights once a block costs little beside
// multiplying them; at most so many, that all of it stays in a second-level cache.
constexpr uint32_t kLeastBlock = 12;
constexpr uint32_t kMostBlock = 42;
// Tokens of a chunk where every token is work of its own, at most: fewer where cores would have none.
constexpr uint32_t kTokensAChunk = 16;

// Shares of a matrix for each core where tokens are few: memory is waited for then, which gives more in long
// runs.
constexpr uint32_t kLongSharesACore = 3;

uint32_t tokens_a_chunk(uint32_t tokens, uint32_t cores) {
  return std::max(1U, std::min(kTokensAChunk, divide_up(tokens, cores)));
}

Tokens block_of(Share share, uint32_t tokens) { return {share.begin(tokens), share.end(tokens)}; }

}  // namespace

Forward::Forward(const Model& model, KvPool& pool, uint32_t tokens)
    : model_(model),
      config_(model.config()),
      kernels_(model.kernels()),
      pool_(pool),
      buffers_(model, tokens),
      attention_(model, pool, buffers_),
      experts_(model, tokens),
      layers_(model, pool, buffers_, experts_),
      logits_(model) {
  program_.reserve(most_regions());
  chunks_.reserve(most_regions());
  layers_.reserve(tokens);
}

void Forward::prepare(Batch& batch, uint32_t cores, uint32_t threads) {
  batch_ = &batch;
  const bool blocks = batch.tokens >= kLeastBlock * cores;
  packs_alone_ = batch.tokens <= kPackAlone;
  while (workspaces_.size() <= threads) {
    workspaces_.push_back(std::make_unique<Workspace>(
        model_, std::min(buffers_.tokens, std::max({kMostBlock, kPackAlone, kTokensAChunk})),
        buffers_.tokens));
  }
  layers_.begin(batch);
  experts_.begin(batch.tokens);
  // Experts take all tokens.
  attention_.plan(batch, cores, !blocks || config_.experts > 0);
  logits_.plan(batch, threads);
  tokens_a_chunk_ = tokens_a_chunk(batch.tokens, cores);
  slots_a_chunk_ = tokens_a_chunk(experts_.slots(), cores);
  last_tokens_ = batch.tokens;
  inputs_ += program_.size();
  program_.clear();
  chunks_.clear();
  if (blocks) {
    plan_blocks(cores);
  } else {
    plan_shares(cores);
  }
  plan_logits(cores);
  if (profiling_) {
    profile_ = {};
    spent_.assign(program_.size(), {});
  }
}

void Forward::add(Stage stage, uint32_t layer, uint32_t chunks, uint32_t pass) {
  program_.push_back({stage, layer, pass});
  chunks_.push_back(chunks);
}

void Forward::plan_shares(uint32_t cores) {
  const auto add_tokens = [&](Stage stage, uint32_t layer) {
    add(stage, layer, divide_up(batch_->tokens, tokens_a_chunk_));
  };
  const auto add_pack = [&](Stage stage, uint32_t layer) {
    if (!packs_alone_) add_tokens(stage, layer);
  };
  const auto add_shares = [&](Stage stage, uint32_t layer, uint32_t most) {
    add(stage, layer, std::min(most, (packs_alone_ ? kLongSharesACore : kChunksACore) * cores));
  };
  const bool branches = model_.weights().branches();
  add_tokens(Stage::kEmbed, 0);
  for (uint32_t l = 0; l < config_.layers; ++l) {
    const LayerWeights& w = model_.weights().layers()[l];
    add_pack(Stage::kPackAttentionInput, l);
    // Heads differ in length: more shares even that out.
    add(Stage::kProject, l, std::min(layers_.project_parts(), kChunksACore * cores));
    add(Stage::kAttend, l, attention_.chunks());
    add_pack(Stage::kPackAttended, l);
    add_shares(Stage::kAttentionOut, l, most_shares(w.attention_out.weights));
    if (branches) add_tokens(Stage::kJoinAttention, l);
    add_pack(Stage::kPackFeedInput, l);
    if (config_.experts == 0) {
      add_shares(Stage::kGateUp, l, units_of(w.gate.weights));
      add_shares(Stage::kDown, l, most_shares(w.down.weights));
    } else {
      add_shares(Stage::kRoute, l, most_shares(w.router));
      add_tokens(Stage::kChoose, l);
      plan_experts(l, cores);
    }
    if (branches) add_tokens(Stage::kJoinFeed, l);
  }
}

void Forward::plan_blocks(uint32_t cores) {
  const uint32_t blocks = cores * divide_up(batch_->tokens, cores * kMostBlock);
  last_tokens_ = 0;
  for (uint32_t b = 0; b < blocks; ++b) last_tokens_ += wanted(block_of({b, blocks}, batch_->tokens)).count();
  for (uint32_t l = 0; l <= config_.layers; ++l) {
    if (l > 0 && config_.experts > 0) {
      add(Stage::kRouteBlocks, l - 1, blocks);
      plan_experts(l - 1, cores);
    }
    add(Stage::kBlocks, l, blocks);
    if (l < config_.layers) add(Stage::kAttend, l, attention_.chunks());
  }
}

// Which experts the tokens will choose is not known yet: chunks are shares of what it then comes to.
void Forward::plan_experts(uint32_t layer, uint32_t cores) {
  add(Stage::kPackExperts, layer, divide_up(experts_.slots(), slots_a_chunk_));
  add(Stage::kExpertsGateUp, layer, kChunksACore * cores);
  add(Stage::kExpertsDown, layer, kChunksACore * cores);
}

void Forward::plan_logits(uint32_t cores) {
  for (uint32_t pass = 0; pass < logits_.passes(); ++pass) {
    add(Stage::kHead, 0, std::min(logits_.parts(), 4 * kChunksACore * cores), pass);
    add(Stage::kSample, 0, logits_.rows(pass), pass);
  }
}

uint32_t Forward::most_regions() const {
  return 1 + model_.config().layers * 13 + 2 * Logits::most_passes(buffers_.tokens);
}

void Forward::run(uint32_t region, uint32_t chunk, ThreadScratch scratch) noexcept {
  const Region& at = program_[region];
  const Share share{chunk, chunks_[region]};
  Workspace& work = *workspaces_[scratch.thread];
  work.clock.start(profiling_);
  switch (at.stage) {
    case Stage::kEmbed:
    case Stage::kPackAttentionInput:
    case Stage::kPackAttended:
    case Stage::kJoinAttention:
    case Stage::kPackFeedInput:
    case Stage::kJoinFeed:
    case Stage::kChoose: {
      const uint32_t begin = chunk * tokens_a_chunk_;
      return run_tokens(at, {begin, std::min(batch_->tokens, begin + tokens_a_chunk_)}, work);
    }
    case Stage::kProject:
    case Stage::kAttentionOut:
    case Stage::kGateUp:
    case Stage::kDown:
    case Stage::kRoute:
      return run_share(region, share, work);
    case Stage::kAttend:
      attention_.run(at.layer, chunk, scratch);
      return work.clock.lap(Operation::kAttend);
    case Stage::kPackExperts:
    case Stage::kExpertsGateUp:
    case Stage::kExpertsDown:
      return run_experts(at, chunk, share, work);
    case Stage::kBlocks:
      return run_block(at.layer, block_of(share, batch_->tokens), work);
    case Stage::kRouteBlocks:
      return route_block(at.layer, block_of(share, batch_->tokens), work);
    case Stage::kHead:
      logits_.multiply(at.pass, share);
      return work.clock.lap(Operation::kHead);
    case Stage::kSample:
      logits_.sample(at.pass, chunk, scratch.thread);
      return work.clock.lap(Operation::kSample);
  }
}

void Forward::run_tokens(const Region& region, Tokens tokens, Workspace& work) {
  const uint32_t layer = region.layer;
  const Panels in = buffers_.panels_of(all());
  switch (region.stage) {
    case Stage::kEmbed:
      return layers_.embed(tokens, work);
    case Stage::kPackAttentionInput:
      return layers_.pack_attention_input(layer, tokens, in, work);
    case Stage::kPackAttended:
      return layers_.pack_attended(layer, tokens, in, work);
    case Stage::kPackFeedInput:
      return layers_.pack_feed_input(layer, tokens, in, work);
    case Stage::kJoinAttention:
      layers_.join_attention(layer, tokens, work);
      if (config_.experts > 0) layers_.prepare_router_input(layer, tokens, work);
      return;
    case Stage::kJoinFeed:
      return layers_.join_feed(layer, tokens, work);
    default:
      experts_.choose(tokens.begin, tokens.end);
      return work.clock.lap(Operation::kChoose);
  }
}

// The packed input of all tokens: what threads packed together, or what this one packs before its first
// share.
template <typename Pack>
Panels Forward::input(uint32_t region, Workspace& work, Pack pack) {
  if (!packs_alone_) return buffers_.panels_of(all());
  const Panels in = work.panels_of(all());
  const uint64_t input = inputs_ + region + 1;
  if (work.packed != input) pack(in);
  work.packed = input;
  return in;
}

void Forward::run_share(uint32_t region, Share share, Workspace& work) {
  const auto [stage, layer, pass] = program_[region];
  const auto feed_input = [&] {
    return input(region, work, [&](const Panels& in) { layers_.pack_feed_input(layer, all(), in, work); });
  };
  switch (stage) {
    case Stage::kProject: {
      const Panels in = input(
          region, work, [&](const Panels& to) { layers_.pack_attention_input(layer, all(), to, work); });
      return layers_.project(layer, in, share, work);
    }
    case Stage::kAttentionOut: {
      const Panels in =
          input(region, work, [&](const Panels& to) { layers_.pack_attended(layer, all(), to, work); });
      return layers_.attention_out(layer, in, share, work);
    }
    case Stage::kGateUp:
      return layers_.gate_up(layer, feed_input(), share, buffers_.gated.get(), work);
    case Stage::kRoute:
      return layers_.route(layer, feed_input(), share, work);
    default:
      return layers_.down(layer, all(), buffers_.gated.get(), share, work);
  }
}

void Forward::run_block(uint32_t layer, Tokens tokens, Workspace& work) {
  if (layer == config_.layers) tokens = wanted(tokens);
  if (tokens.count() == 0) return;
  if (layer == 0) {
    layers_.embed(tokens, work);
  } else {
    finish_layer(layer - 1, tokens, work);
  }
  if (layer == config_.layers) return;
  const Panels in = work.panels_of(tokens);
  layers_.pack_attention_input(layer, tokens, in, work);
  layers_.project(layer, in, {}, work);
}

void Forward::finish_layer(uint32_t layer, Tokens tokens, Workspace& work) {
  if (config_.experts == 0) {
    const Panels in = work.panels_of(tokens);
    layers_.pack_attended(layer, tokens, in, work);
    layers_.attention_out(layer, in, {}, work);
    layers_.join_attention(layer, tokens, work);
    layers_.pack_feed_input(layer, tokens, in, work);
    layers_.gate_up(layer, in, {}, work.gated.get(), work);
    layers_.down(layer, tokens, work.gated.get(), {}, work);
  }
  layers_.join_feed(layer, tokens, work);
}

void Forward::route_block(uint32_t layer, Tokens tokens, Workspace& work) {
  const Panels in = work.panels_of(tokens);
  layers_.pack_attended(layer, tokens, in, work);
  layers_.attention_out(layer, in, {}, work);
  layers_.join_attention(layer, tokens, work);
  layers_.prepare_router_input(layer, tokens, work);
  layers_.pack_feed_input(layer, tokens, in, work);
  layers_.route(layer, in, {}, work);
  experts_.choose(tokens.begin, tokens.end);
  work.clock.lap(Operation::kChoose);
}

// From the first to the last token of a block whose logits are wanted: after its attention, the last layer
// has nothing to do for others.
Tokens Forward::wanted(Tokens block) const {
  if (config_.experts > 0) return block;
  Tokens wanted{block.end, block.begin};
  for (const BatchRow& row : batch_->rows) {
    const uint32_t end = std::min(block.end, row.first_token + row.tokens);
    const uint32_t begin = std::max(block.begin, row.first_token + row.tokens - row.logits);
    if (begin >= end) continue;
    wanted.begin = std::min(wanted.begin, begin);
    wanted.end = std::max(wanted.end, end);
  }
  return wanted.begin < wanted.end ? wanted : Tokens{block.begin, block.begin};
}

void Forward::run_experts(const Region& region, uint32_t chunk, Share share, Workspace& work) {
  const LayerWeights& w = model_.weights().layers()[region.layer];
  switch (region.stage) {
    case Stage::kPackExperts: {
      const uint32_t begin = chunk * slots_a_chunk_;
      experts_.pack_input(w, buffers_.normed.get(), begin,
                          std::min(experts_.slots(), begin + slots_a_chunk_));
      return work.clock.lap(Operation::kPackExperts);
    }
    case Stage::kExpertsGateUp:
      return experts_.gate_up(w, share, work);
    default:
      experts_.down(w, share);
      return work.clock.lap(Operation::kExpertsDown);
  }
}

void Forward::finish(uint32_t region) noexcept {
  const Stage stage = program_[region].stage;
  if (stage == Stage::kChoose || stage == Stage::kRouteBlocks) experts_.sort();
  if (region + 1 < program_.size() && program_[region + 1].stage == Stage::kHead) {
    logits_.gather(program_[region + 1].pass, buffers_.hidden.get());
  }
  if (profiling_) note(region);
}

}  // namespace streamserve
