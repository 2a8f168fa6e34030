// The paged KV cache of one engine, shared by its lanes.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "kernels/kernels.h"
#include "kv/memory.h"
#include "kv/prefix_cache.h"
#include "kv/prefix_tier.h"
#include "kv/sequence.h"

namespace streamserve {

struct KvLayout {
  uint32_t layers = 0;
  uint32_t kv_heads = 0;
  uint32_t head_dim = 0;
  uint32_t block_tokens = 0;
  KvFormat format = KvFormat::kFloat16;
  // Tokens of context whose attention costs as much as everything else of a token: says how much dearer late
  // blocks are to compute again.
  double attention_tokens = 4096;

  // In 16-bit words: a block holds, for each layer and KV head, keys and then values of block_tokens tokens.
  size_t part_words() const { return kv_part_words(format, head_dim, block_tokens); }
  size_t key_offset(uint32_t layer, uint32_t head) const {
    return (size_t{layer} * kv_heads + head) * 2 * part_words();
  }
  size_t value_offset(uint32_t layer, uint32_t head) const { return key_offset(layer, head) + part_words(); }
  size_t block_words() const { return size_t{layers} * kv_heads * 2 * part_words(); }
};

struct KvCounts {
  uint32_t total = 0;
  uint32_t free = 0;
  uint32_t cached = 0;
  uint32_t used = 0;
  uint32_t sequences = 0;
  // Whole prompt blocks that new sequences asked for, ever: found in the prefix cache, and not found; and
  // cached blocks that gave way, ever.
  uint64_t prefix_hits = 0;
  uint64_t prefix_misses = 0;
  uint64_t prefix_evictions = 0;
};

// One row's wish for room: `tokens` more behind what the sequence holds.
struct Growth {
  Sequence* sequence;
  uint32_t tokens;
};

// Thread-safe. A live sequence belongs to one lane; its content is touched by that lane alone, while the
// pool's lock guards blocks, ownership and the prefix cache.
class KvPool {
 public:
  // Reserves address space for `blocks` blocks; pages are taken as they are first written. Throws
  // `out_of_memory`.
  KvPool(const KvLayout& layout, uint32_t blocks, std::unique_ptr<PrefixTier> tier = nullptr);
  // Cached blocks go to the tier, if there is one.
  ~KvPool();
  KvPool(const KvPool&) = delete;
  KvPool& operator=(const KvPool&) = delete;

  const KvLayout& layout() const { return layout_; }
  // Address space of the blocks.
  size_t bytes() const { return size_t{total_} * layout_.block_words() * sizeof(uint16_t); }
  KvCounts counts() const;
  // All 0 without a tier.
  PrefixTierCounts tier_counts() const { return tier_ ? tier_->counts() : PrefixTierCounts{}; }
  // What computing a prompt's token takes: what reading a block from the tier is compared with.
  void set_token_ns(double ns) { token_ns_.store(ns, std::memory_order_relaxed); }

  // A new sequence of `lane`. Leading full blocks of `prompt` that are in the prefix cache, or are read from
  // the tier into blocks that can be had, are shared, at most up to the token before the last, and only among
  // sequences of one `salt`. Throws `kv_exhausted` beyond kMostSequences. Its last `unsure` tokens enter the
  // cache only when more have followed: see cut().
  SequenceHandle create(uint32_t lane, std::span<const uint32_t> prompt, Sampler sampler,
                        uint32_t& cached_tokens, const ChainHash& salt = {}, uint32_t unsure = 0);
  // Takes back all but the first `tokens` tokens of a sequence that is in no step. Throws `stale_handle`, and
  // `native_argument_invalid` for more than it holds or when others may hold a block that would change.
  void cut(uint32_t lane, SequenceHandle handle, uint32_t tokens);
  // The live sequence of `lane`; throws `stale_handle`.
  Sequence& get(uint32_t lane, SequenceHandle handle);
  // Gives a sequence's blocks back, after the running step if it is in one. Stale handles are ignored.
  void release(uint32_t lane, SequenceHandle handle);
  // Marks `to` as the lane that may adopt; throws `stale_handle`, `native_argument_invalid` while in a step.
  void hand_over(uint32_t lane, SequenceHandle handle, uint32_t to);
  void adopt(uint32_t lane, SequenceHandle handle);
  // Releases what was handed to `lane` by lanes that reclaim() was called for since, and what it has not
  // adopted.
  void release_stranded(uint32_t lane);
  // Releases all that `lane` owns or was handed. No step of the lane may be running.
  void reclaim(uint32_t lane);

  // Gives every sequence blocks for its new tokens, and marks them as in a step; all or nothing. Throws
  // `kv_exhausted`.
  void grow(std::span<const Growth> rows);
  // Ends a step of a sequence: `tokens` holds what is in the KV now; blocks beyond are freed, and full ones
  // enter the prefix cache. True when the sequence lives on.
  bool settle(Sequence& sequence);

  // Where a block begins.
  uint16_t* block(uint32_t index) const { return memory_.data() + size_t{index} * layout_.block_words(); }

  static constexpr uint32_t kMostSequences = 1 << 16;

 private:
  Sequence* find(SequenceHandle handle);
  Sequence& owned(uint32_t lane, SequenceHandle handle);
  void append_block(Sequence& sequence, uint32_t block);
  void trim(Sequence& sequence, size_t blocks);
  void retire(Sequence& sequence);
  size_t read_from_tier(Sequence& sequence, std::span<const uint32_t> prompt, size_t shareable);
  void adopt_read(Sequence& sequence, std::span<const uint32_t> prompt, size_t read);
  uint32_t take_block();
  void drop_block(uint32_t index);
  void share_block(uint32_t index);
  bool remember(Sequence& sequence, std::span<const uint32_t> tokens, const ChainHash& hash);

  const KvLayout layout_;
  const uint32_t total_;
  KvMemory memory_;
  mutable std::mutex lock_;
  // Sequences that hold each block.
  std::vector<uint32_t> references_;
  std::vector<uint32_t> free_;
  PrefixCache prefixes_;
  const std::unique_ptr<PrefixTier> tier_;
  std::atomic<double> token_ns_{0};
  uint64_t prefix_hits_ = 0;
  uint64_t prefix_misses_ = 0;
  // Where chains begin: random, so that nobody can prepare prompts whose hashes collide.
  const ChainHash root_;
  // Pointers stay valid while the table grows.
  std::vector<std::unique_ptr<Sequence>> sequences_;
  std::vector<uint32_t> free_sequences_;
};

}  // namespace streamserve
