// Finds full KV blocks by the tokens they hold and all tokens before them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "kv/sequence.h"

namespace streamserve {

// Hash of the chain `parent` followed by a block of `tokens`.
ChainHash extend_chain(const ChainHash& parent, std::span<const uint32_t> tokens);

// Not thread-safe: the pool's lock guards it.
class PrefixCache {
 public:
  explicit PrefixCache(uint32_t blocks) : entries_(blocks) {}

  // The block that holds `tokens` after the chain `parent`; `hash` is extend_chain(parent, tokens).
  std::optional<uint32_t> find(const ChainHash& hash, const ChainHash& parent,
                               std::span<const uint32_t> tokens) const;
  // Remembers a full, computed block. False when an equal one is known already.
  bool insert(uint32_t block, const ChainHash& hash, const ChainHash& parent,
              std::span<const uint32_t> tokens);
  void erase(uint32_t block);
  bool contains(uint32_t block) const { return entries_[block].known; }

 private:
  // The tokens and the parent are compared, so that a collision of hashes never shares a wrong block.
  struct Entry {
    bool known = false;
    ChainHash hash;
    ChainHash parent;
    std::vector<uint32_t> tokens;
  };
  struct HashOf {
    size_t operator()(const ChainHash& hash) const { return hash.low; }
  };

  std::vector<Entry> entries_;
  std::unordered_map<ChainHash, uint32_t, HashOf> index_;
};

}  // namespace streamserve
