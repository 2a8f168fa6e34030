#include "kv/prefix_cache.h"

#include <algorithm>

namespace streamserve {
namespace {

// Finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

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

std::optional<uint32_t> PrefixCache::find(const ChainHash& hash, const ChainHash& parent,
                                          std::span<const uint32_t> tokens) const {
  const auto found = index_.find(hash);
  if (found == index_.end()) return std::nullopt;
  const Entry& entry = entries_[found->second];
  if (entry.parent != parent ||
      !std::equal(tokens.begin(), tokens.end(), entry.tokens.begin(), entry.tokens.end())) {
    return std::nullopt;
  }
  return found->second;
}

bool PrefixCache::insert(uint32_t block, const ChainHash& hash, const ChainHash& parent,
                         std::span<const uint32_t> tokens) {
  Entry& entry = entries_[block];
  entry.tokens.assign(tokens.begin(), tokens.end());
  if (!index_.emplace(hash, block).second) return false;
  entry.known = true;
  entry.hash = hash;
  entry.parent = parent;
  return true;
}

void PrefixCache::erase(uint32_t block) {
  Entry& entry = entries_[block];
  if (!entry.known) return;
  index_.erase(entry.hash);
  entry.known = false;
}

}  // namespace streamserve
