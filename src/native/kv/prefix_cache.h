// The radix tree of cached prefixes, and the order in which they give way.
#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "kv/leaf_heap.h"
#include "kv/prefix_tier.h"
#include "kv/reuse_model.h"
#include "kv/sequence.h"

namespace streamserve {

// Hash of the chain `parent` followed by a block of `tokens`.
ChainHash extend_chain(const ChainHash& parent, std::span<const uint32_t> tokens);

// A node is a full block that holds what its chain names; its parent holds the block before. A block is idle
// when no sequence holds it. Idle leaves are the candidates for eviction: of each class of history the
// longest idle, and of these the one of least worth, worth being expected reuse per time times the time to
// compute it again. Evicted blocks are remembered for a while as ghosts, so that what eviction costs is
// learnt too. Finding a victim takes O(classes + log blocks). src/engine/prefix-index.ts is the same policy
// for the simulated pool. Not thread-safe: the pool's lock guards it.
class PrefixCache {
 public:
  // `attention_tokens`: tokens of context whose attention costs as much as everything else of a token.
  PrefixCache(uint32_t blocks, uint32_t block_tokens, double attention_tokens);

  // The block that holds `tokens` after the chain `parent`; `hash` is extend_chain(parent, tokens).
  std::optional<uint32_t> find(const ChainHash& hash, const ChainHash& parent,
                               std::span<const uint32_t> tokens) const;
  // Makes `block`, full, computed and held by a sequence, a node below the block `above` (kNoBlock at the
  // beginning of a chain). `begins`: the first block of its sequence that was not found. False when its chain
  // is known already. Throws bad_alloc; then nothing has changed.
  bool insert(uint32_t block, const ChainHash& hash, const ChainHash& parent,
              std::span<const uint32_t> tokens, uint32_t above, bool begins);
  bool contains(uint32_t block) const { return nodes_[block].known; }
  // One more sequence holds a node; `first`: and nobody else does.
  void reuse(uint32_t block, bool first);
  // Nobody holds a node any more.
  void release(uint32_t block);
  // Takes the idle leaf of least worth out of the tree; kNoBlock when none is idle.
  uint32_t evict();
  // What `block` holds, or held when it was evicted, until it is inserted anew. The tokens are the cache's.
  BlockName name(uint32_t block) const;
  // Nodes that nobody holds, beginnings of chains before what follows them.
  std::vector<uint32_t> idle_blocks() const;

  uint32_t idle() const { return idle_; }
  uint64_t evictions() const { return evictions_; }

 private:
  struct Node {
    bool known = false;
    bool idle = false;
    // Turns of a conversation that lie before it.
    uint8_t turn = 0;
    uint32_t parent = kNoBlock;
    uint32_t children = 0;
    uint32_t position = 0;
    uint32_t reuses = 0;
    // The tokens and the parent are compared, so that a collision of hashes never shares a wrong block.
    ChainHash hash;
    ChainHash parent_hash;
    std::vector<uint32_t> tokens;
  };
  // What a block that was given up is remembered by.
  struct Ghost {
    ChainHash hash;
    uint32_t kind;
    uint32_t reuses;
    uint8_t turn;
    uint64_t idle_since;
  };
  struct HashOf {
    size_t operator()(const ChainHash& hash) const { return hash.low; }
  };

  uint32_t kind(const Node& node) const;
  double recompute(const Node& node) const;
  uint64_t age(uint64_t since) const { return now_ - since; }
  void tick();
  void remember(uint32_t block, uint32_t kind);
  void recall(Node& node);

  const double block_share_;
  std::vector<Node> nodes_;
  std::vector<uint64_t> idle_since_;
  std::vector<uint32_t> places_;
  std::vector<LeafHeap> heaps_;
  std::unordered_map<ChainHash, uint32_t, HashOf> index_;
  // Oldest first.
  std::list<Ghost> ghosts_;
  std::unordered_map<ChainHash, std::list<Ghost>::iterator, HashOf> ghost_index_;
  ReuseModel model_;
  std::vector<double> waiting_;
  uint32_t idle_ = 0;
  uint64_t evictions_ = 0;
  // Blocks asked for: the time that ages are counted in.
  uint64_t now_ = 0;
  uint64_t refresh_at_;
};

}  // namespace streamserve
