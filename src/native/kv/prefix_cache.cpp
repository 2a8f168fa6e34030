#include "kv/prefix_cache.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <limits>
#include <new>

namespace streamserve {
namespace {

// Finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// Blocks whose history is told apart: how often reused, and how many turns of a conversation lie before.
constexpr uint32_t kReuseClasses = 5;
constexpr uint32_t kTurnClasses = 4;
constexpr uint32_t kClasses = kReuseClasses * kTurnClasses;

}  // namespace

ChainHash extend_chain(const ChainHash& parent, std::span<const uint32_t> tokens) {
  // Two streams with different constants; any change of a token or its place changes both.
  ChainHash hash{parent.low ^ 0x243f6a8885a308d3u, parent.high ^ 0x13198a2e03707344u};
  for (const uint32_t token : tokens) {
    hash.low = mix(hash.low + token + 0x9e3779b97f4a7c15u);
    hash.high = mix(hash.high * 0xff51afd7ed558ccdu + token + 1);
  }
  return hash;
}

PrefixCache::PrefixCache(uint32_t blocks, uint32_t block_tokens, double attention_tokens)
    : block_share_(block_tokens / attention_tokens),
      nodes_(blocks),
      idle_since_(blocks),
      places_(blocks),
      model_(kClasses),
      waiting_(size_t{kClasses} * ReuseModel::kAges),
      refresh_at_(blocks) {
  heaps_.reserve(kClasses);
  for (uint32_t kind = 0; kind < kClasses; ++kind) heaps_.emplace_back(idle_since_, places_);
}

std::optional<uint32_t> PrefixCache::find(const ChainHash& hash, const ChainHash& parent,
                                          std::span<const uint32_t> tokens) const {
  const auto found = index_.find(hash);
  if (found == index_.end()) return std::nullopt;
  const Node& node = nodes_[found->second];
  if (node.parent_hash != parent ||
      !std::equal(tokens.begin(), tokens.end(), node.tokens.begin(), node.tokens.end())) {
    return std::nullopt;
  }
  return found->second;
}

bool PrefixCache::insert(uint32_t block, const ChainHash& hash, const ChainHash& parent,
                         std::span<const uint32_t> tokens, uint32_t above, bool begins) {
  Node& node = nodes_[block];
  node.tokens.assign(tokens.begin(), tokens.end());
  if (!index_.emplace(hash, block).second) return false;
  tick();
  node.known = true;
  node.hash = hash;
  node.parent_hash = parent;
  node.parent = above;
  node.children = 0;
  node.position = 0;
  node.reuses = 0;
  node.turn = 0;
  if (above != kNoBlock) {
    Node& before = nodes_[above];
    node.position = before.position + 1;
    // Going on from a leaf is a conversation's next turn; from anywhere else, a new one.
    if (!begins) {
      node.turn = before.turn;
    } else if (before.children == 0) {
      node.turn = static_cast<uint8_t>(std::min(255, before.turn + 1));
    }
    ++before.children;
  }
  recall(node);
  return true;
}

// What came back was given up too early: that is a reuse too, and its history goes on.
void PrefixCache::recall(Node& node) {
  const auto found = ghost_index_.find(node.hash);
  if (found == ghost_index_.end()) return;
  const Ghost ghost = *found->second;
  ghosts_.erase(found->second);
  ghost_index_.erase(found);
  model_.reused(ghost.kind, age(ghost.idle_since));
  node.reuses = ghost.reuses + 1;
  node.turn = std::max(ghost.turn, node.turn);
}

void PrefixCache::reuse(uint32_t block, bool first) {
  tick();
  Node& node = nodes_[block];
  if (first) {
    model_.reused(kind(node), age(idle_since_[block]));
    if (node.children == 0) heaps_[kind(node)].remove(block);
    node.idle = false;
    --idle_;
  }
  ++node.reuses;
}

void PrefixCache::release(uint32_t block) {
  Node& node = nodes_[block];
  node.idle = true;
  ++idle_;
  idle_since_[block] = now_;
  if (node.children == 0) heaps_[kind(node)].add(block);
}

uint32_t PrefixCache::evict() {
  uint32_t victim = kNoBlock;
  double least = std::numeric_limits<double>::infinity();
  for (uint32_t kind = 0; kind < kClasses; ++kind) {
    const uint32_t block = heaps_[kind].first();
    if (block == kNoBlock) continue;
    const double worth = model_.worth(kind, age(idle_since_[block])) * recompute(nodes_[block]);
    if (worth >= least) continue;
    least = worth;
    victim = block;
  }
  if (victim == kNoBlock) return kNoBlock;
  Node& node = nodes_[victim];
  heaps_[kind(node)].remove(victim);
  remember(victim, kind(node));
  index_.erase(node.hash);
  node.known = false;
  node.idle = false;
  --idle_;
  ++evictions_;
  if (node.parent != kNoBlock) {
    Node& parent = nodes_[node.parent];
    if (--parent.children == 0 && parent.idle) heaps_[kind(parent)].add(node.parent);
  }
  return victim;
}

BlockName PrefixCache::name(uint32_t block) const {
  const Node& node = nodes_[block];
  return {node.hash, node.parent_hash, node.tokens};
}

std::vector<uint32_t> PrefixCache::idle_blocks() const {
  std::vector<uint32_t> blocks;
  for (uint32_t block = 0; block < nodes_.size(); ++block) {
    if (nodes_[block].idle) blocks.push_back(block);
  }
  std::sort(blocks.begin(), blocks.end(),
            [&](uint32_t one, uint32_t other) { return nodes_[one].position < nodes_[other].position; });
  return blocks;
}

uint32_t PrefixCache::kind(const Node& node) const {
  const auto level = [](uint32_t n, uint32_t most) {
    return std::min(most - 1, static_cast<uint32_t>(std::bit_width(n)));
  };
  return level(node.reuses, kReuseClasses) * kTurnClasses + level(node.turn, kTurnClasses);
}

// Time to compute a block again, in that of the first.
double PrefixCache::recompute(const Node& node) const { return 1 + node.position * block_share_; }

void PrefixCache::remember(uint32_t block, uint32_t kind) {
  const Node& node = nodes_[block];
  try {
    ghosts_.push_back({node.hash, kind, node.reuses, node.turn, idle_since_[block]});
    ghost_index_[node.hash] = std::prev(ghosts_.end());
  } catch (const std::bad_alloc&) {
    // Only what its eviction costs is not learnt. An entry made halfway names no ghost.
    if (!ghosts_.empty() && ghosts_.back().hash == node.hash) ghosts_.pop_back();
    ghost_index_.erase(node.hash);
    return;
  }
  // What comes back later than that is as good as new.
  if (ghosts_.size() <= 2 * nodes_.size()) return;
  const Ghost& oldest = ghosts_.front();
  model_.lost(oldest.kind, age(oldest.idle_since));
  ghost_index_.erase(oldest.hash);
  ghosts_.pop_front();
}

void PrefixCache::tick() {
  if (++now_ < refresh_at_) return;
  refresh_at_ = now_ + nodes_.size();
  std::fill(waiting_.begin(), waiting_.end(), 0.0);
  for (size_t block = 0; block < nodes_.size(); ++block) {
    const Node& node = nodes_[block];
    if (node.idle) waiting_[ReuseModel::place(kind(node), age(idle_since_[block]))] += 1;
  }
  for (const Ghost& ghost : ghosts_) waiting_[ReuseModel::place(ghost.kind, age(ghost.idle_since))] += 1;
  model_.refresh(waiting_);
}

}  // namespace streamserve
