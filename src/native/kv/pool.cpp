#include "kv/pool.h"

#include <algorithm>
#include <new>
#include <random>
#include <string>
#include <utility>

#include "error.h"

namespace streamserve {
namespace {

ChainHash random_root() {
  std::random_device random;
  const auto word = [&random] { return uint64_t{random()} << 32 | random(); };
  return {word(), word()};
}

}  // namespace

KvPool::KvPool(const KvLayout& layout, uint32_t blocks, std::unique_ptr<PrefixTier> tier)
    : layout_(layout),
      total_(blocks),
      memory_(size_t{blocks} * layout.block_words()),
      references_(blocks),
      prefixes_(blocks, layout.block_tokens, layout.attention_tokens),
      tier_(std::move(tier)),
      root_(tier_ ? tier_->root() : random_root()) {
  free_.reserve(blocks);
  for (uint32_t i = blocks; i-- > 0;) free_.push_back(i);
}

KvPool::~KvPool() {
  if (!tier_) return;
  try {
    for (const uint32_t index : prefixes_.idle_blocks()) {
      // One after the other, so that all find room to wait in.
      tier_->keep(prefixes_.name(index), block(index));
      tier_->flush();
    }
  } catch (const std::bad_alloc&) {
    // They are computed again.
  }
}

KvCounts KvPool::counts() const {
  const std::lock_guard guard(lock_);
  const uint32_t free = static_cast<uint32_t>(free_.size());
  const uint32_t cached = prefixes_.idle();
  return {total_,
          free,
          cached,
          total_ - free - cached,
          static_cast<uint32_t>(sequences_.size() - free_sequences_.size()),
          prefix_hits_,
          prefix_misses_,
          prefixes_.evictions()};
}

SequenceHandle KvPool::create(uint32_t lane, std::span<const uint32_t> prompt, Sampler sampler,
                              uint32_t& cached_tokens, const ChainHash& salt, uint32_t unsure) {
  std::unique_lock guard(lock_);
  if (free_sequences_.empty()) {
    if (sequences_.size() >= kMostSequences) {
      throw EngineError(ErrorCode::kKvExhausted,
                        "The KV pool holds " + std::to_string(kMostSequences) + " sequences already.");
    }
    // So that giving a slot back never allocates.
    free_sequences_.reserve(sequences_.size() + 1);
    sequences_.push_back(std::make_unique<Sequence>());
    sequences_.back()->index = static_cast<uint32_t>(sequences_.size() - 1);
    free_sequences_.push_back(sequences_.back()->index);
  }
  const uint32_t index = free_sequences_.back();
  Sequence& sequence = *sequences_[index];
  sequence.tokens.reserve(prompt.size());
  sequence.blocks.reserve(prompt.size() / layout_.block_tokens + 1);
  sequence.addresses.reserve(sequence.blocks.capacity());
  free_sequences_.pop_back();
  sequence.live = true;
  sequence.owner = lane;
  sequence.heir = kNoLane;
  sequence.stranded = false;
  sequence.in_step = false;
  sequence.release_after_step = false;
  sequence.hashed_blocks = 0;
  sequence.unsure = unsure;
  const bool salted = salt != ChainHash{};
  const uint32_t salt_words[] = {static_cast<uint32_t>(salt.low), static_cast<uint32_t>(salt.low >> 32),
                                 static_cast<uint32_t>(salt.high), static_cast<uint32_t>(salt.high >> 32)};
  sequence.chain = salted ? extend_chain(root_, salt_words) : root_;
  sequence.sampler = std::move(sampler);

  // The last token is always computed: its logits are wanted.
  const size_t shareable = prompt.empty() ? 0 : (prompt.size() - 1) / layout_.block_tokens;
  for (size_t b = 0; b < shareable; ++b) {
    const auto tokens = prompt.subspan(b * layout_.block_tokens, layout_.block_tokens);
    const ChainHash hash = extend_chain(sequence.chain, tokens);
    const auto block = prefixes_.find(hash, sequence.chain, tokens);
    if (!block) break;
    share_block(*block);
    append_block(sequence, *block);
    sequence.tokens.insert(sequence.tokens.end(), tokens.begin(), tokens.end());
    sequence.chain = hash;
    ++sequence.hashed_blocks;
  }
  if (tier_ && sequence.hashed_blocks < shareable) {
    // Nobody knows it yet, and no lane's end may take it away while its blocks are read.
    sequence.owner = kNoLane;
    guard.unlock();
    const size_t read = read_from_tier(sequence, prompt, shareable);
    guard.lock();
    adopt_read(sequence, prompt, read);
    sequence.owner = lane;
  }
  sequence.found_blocks = sequence.hashed_blocks;
  prefix_hits_ += sequence.found_blocks;
  prefix_misses_ += shareable - sequence.found_blocks;
  cached_tokens = static_cast<uint32_t>(sequence.tokens.size());
  return {index, sequence.epoch};
}

// Reads the blocks after those that were found, without the lock: as many as the tier holds, reading is
// cheaper than computing, and blocks can be had for. Gives their number; they are the sequence's, and not
// known yet.
size_t KvPool::read_from_tier(Sequence& sequence, std::span<const uint32_t> prompt, size_t shareable) {
  const double block_ns = token_ns_.load(std::memory_order_relaxed) * layout_.block_tokens;
  ChainHash chain = sequence.chain;
  size_t read = 0;
  for (size_t b = sequence.hashed_blocks; b < shareable; ++b, ++read) {
    const auto tokens = prompt.subspan(b * layout_.block_tokens, layout_.block_tokens);
    const BlockName name{extend_chain(chain, tokens), chain, tokens};
    if (!tier_->holds(name) || !tier_->pays(block_ns)) break;
    uint32_t index = kNoBlock;
    {
      const std::lock_guard guard(lock_);
      if (free_.empty() && prefixes_.idle() == 0) break;
      index = take_block();
      append_block(sequence, index);
    }
    if (!tier_->read(name, block(index))) break;
    chain = name.hash;
  }
  return read;
}

// Under the lock: makes the blocks that were read known, as if they had been found; what was not read goes.
void KvPool::adopt_read(Sequence& sequence, std::span<const uint32_t> prompt, size_t read) {
  for (; read > 0; --read) {
    const auto tokens =
        prompt.subspan(size_t{sequence.hashed_blocks} * layout_.block_tokens, layout_.block_tokens);
    const ChainHash hash = extend_chain(sequence.chain, tokens);
    // No turn of a conversation begins here.
    sequence.found_blocks = kNoBlock;
    if (!remember(sequence, tokens, hash)) break;
    sequence.tokens.insert(sequence.tokens.end(), tokens.begin(), tokens.end());
    sequence.chain = hash;
    ++sequence.hashed_blocks;
  }
  trim(sequence, sequence.hashed_blocks);
}

Sequence* KvPool::find(SequenceHandle handle) {
  if (handle.index >= sequences_.size()) return nullptr;
  Sequence* sequence = sequences_[handle.index].get();
  return sequence->live && sequence->epoch == handle.epoch && !sequence->release_after_step ? sequence
                                                                                            : nullptr;
}

Sequence& KvPool::owned(uint32_t lane, SequenceHandle handle) {
  Sequence* sequence = find(handle);
  if (!sequence || sequence->owner != lane || sequence->heir != kNoLane) {
    throw EngineError(ErrorCode::kStaleHandle, "Sequence " + std::to_string(handle.index) + " (epoch " +
                                                   std::to_string(handle.epoch) + ") is gone or not lane " +
                                                   std::to_string(lane) + "'s.");
  }
  return *sequence;
}

Sequence& KvPool::get(uint32_t lane, SequenceHandle handle) {
  const std::lock_guard guard(lock_);
  return owned(lane, handle);
}

void KvPool::cut(uint32_t lane, SequenceHandle handle, uint32_t tokens) {
  const std::lock_guard guard(lock_);
  Sequence& sequence = owned(lane, handle);
  if (sequence.in_step || tokens > sequence.tokens.size() ||
      tokens < size_t{sequence.hashed_blocks} * layout_.block_tokens) {
    throw EngineError(ErrorCode::kArgumentInvalid, "A sequence of " + std::to_string(sequence.tokens.size()) +
                                                       " tokens cannot be cut to " + std::to_string(tokens) +
                                                       " now.");
  }
  sequence.tokens.resize(tokens);
  trim(sequence, (size_t{tokens} + layout_.block_tokens - 1) / layout_.block_tokens);
}

void KvPool::release(uint32_t lane, SequenceHandle handle) {
  const std::lock_guard guard(lock_);
  Sequence* sequence = find(handle);
  // A lane may also drop what it was handed, and what it handed over but nobody adopted.
  if (!sequence || (sequence->owner != lane && sequence->heir != lane)) return;
  if (sequence->in_step) {
    sequence->release_after_step = true;
  } else {
    retire(*sequence);
  }
}

void KvPool::hand_over(uint32_t lane, SequenceHandle handle, uint32_t to) {
  const std::lock_guard guard(lock_);
  Sequence& sequence = owned(lane, handle);
  if (sequence.in_step) {
    throw EngineError(ErrorCode::kArgumentInvalid,
                      "A sequence cannot be handed over while a step computes it.");
  }
  sequence.heir = to;
}

void KvPool::adopt(uint32_t lane, SequenceHandle handle) {
  const std::lock_guard guard(lock_);
  Sequence* sequence = find(handle);
  if (!sequence || sequence->heir != lane) {
    throw EngineError(ErrorCode::kStaleHandle,
                      "Sequence " + std::to_string(handle.index) + " (epoch " + std::to_string(handle.epoch) +
                          ") was not handed to lane " + std::to_string(lane) + ", or is gone.");
  }
  sequence->owner = lane;
  sequence->heir = kNoLane;
  sequence->stranded = false;
}

void KvPool::release_stranded(uint32_t lane) {
  const std::lock_guard guard(lock_);
  for (const auto& sequence : sequences_) {
    if (sequence->live && sequence->stranded && sequence->heir == lane) retire(*sequence);
  }
}

void KvPool::reclaim(uint32_t lane) {
  const std::lock_guard guard(lock_);
  for (const auto& sequence : sequences_) {
    if (!sequence->live) continue;
    if (sequence->heir == lane || (sequence->owner == lane && sequence->heir == kNoLane)) {
      retire(*sequence);
    } else if (sequence->owner == lane) {
      sequence->stranded = true;
    }
  }
}

void KvPool::grow(std::span<const Growth> rows) {
  const std::lock_guard guard(lock_);
  // Doubled, so that a long answer is not copied at every token.
  const auto make_room = [](auto& list, size_t size) {
    if (list.capacity() < size) list.reserve(std::max(size, 2 * list.capacity()));
  };
  uint64_t wanted = 0;
  for (const Growth& row : rows) {
    const size_t tokens = row.sequence->tokens.size() + row.tokens;
    const size_t blocks = (tokens + layout_.block_tokens - 1) / layout_.block_tokens;
    // May throw: before anything is taken.
    make_room(row.sequence->tokens, tokens);
    make_room(row.sequence->blocks, blocks);
    make_room(row.sequence->addresses, blocks);
    wanted += blocks - std::min(blocks, row.sequence->blocks.size());
  }
  if (wanted > free_.size() + prefixes_.idle()) {
    throw EngineError(ErrorCode::kKvExhausted,
                      "The step needs " + std::to_string(wanted) + " more KV blocks; " +
                          std::to_string(free_.size() + prefixes_.idle()) + " are free.");
  }
  for (const Growth& row : rows) {
    Sequence& sequence = *row.sequence;
    const size_t tokens = sequence.tokens.size() + row.tokens;
    while (sequence.blocks.size() * layout_.block_tokens < tokens) append_block(sequence, take_block());
    sequence.in_step = true;
  }
}

bool KvPool::settle(Sequence& sequence) {
  const std::lock_guard guard(lock_);
  sequence.in_step = false;
  const size_t size = sequence.tokens.size();
  const size_t full = (size - std::min<size_t>(size, sequence.unsure)) / layout_.block_tokens;
  for (size_t b = sequence.hashed_blocks; b < full; ++b) {
    const auto tokens =
        std::span<const uint32_t>(sequence.tokens).subspan(b * layout_.block_tokens, layout_.block_tokens);
    const ChainHash hash = extend_chain(sequence.chain, tokens);
    if (!remember(sequence, tokens, hash)) break;
    sequence.chain = hash;
    sequence.hashed_blocks = static_cast<uint32_t>(b + 1);
  }
  if (sequence.release_after_step) {
    retire(sequence);
    return false;
  }
  trim(sequence, (sequence.tokens.size() + layout_.block_tokens - 1) / layout_.block_tokens);
  return true;
}

// Makes the sequence's next full block known. Where an equal one is known, the sequence holds that one from
// now on: so all known blocks of a chain are held by whoever holds its end, and cached leaves can always give
// way. False when that can't be done; the block is only not shared then.
bool KvPool::remember(Sequence& sequence, std::span<const uint32_t> tokens, const ChainHash& hash) {
  const uint32_t at = sequence.hashed_blocks;
  const uint32_t own = sequence.blocks[at];
  const uint32_t above = at == 0 ? kNoBlock : sequence.blocks[at - 1];
  try {
    if (prefixes_.insert(own, hash, sequence.chain, tokens, above, at == sequence.found_blocks)) return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
  const auto known = prefixes_.find(hash, sequence.chain, tokens);
  if (!known) return false;
  share_block(*known);
  sequence.blocks[at] = *known;
  sequence.addresses[at] = block(*known);
  drop_block(own);
  sequence.found_blocks = at + 1;
  return true;
}

void KvPool::append_block(Sequence& sequence, uint32_t index) {
  sequence.blocks.push_back(index);
  sequence.addresses.push_back(block(index));
}

// Later blocks go first: of a cached chain the end is evicted before the beginning.
void KvPool::trim(Sequence& sequence, size_t blocks) {
  while (sequence.blocks.size() > blocks) {
    drop_block(sequence.blocks.back());
    sequence.blocks.pop_back();
    sequence.addresses.pop_back();
  }
}

void KvPool::retire(Sequence& sequence) {
  trim(sequence, 0);
  sequence.live = false;
  ++sequence.epoch;
  // Long prompts are rare; their memory is not kept for the next sequence of this slot.
  sequence.tokens = {};
  sequence.blocks = {};
  sequence.addresses = {};
  sequence.sampler.reset();
  free_sequences_.push_back(sequence.index);
}

uint32_t KvPool::take_block() {
  uint32_t index;
  if (!free_.empty()) {
    index = free_.back();
    free_.pop_back();
  } else {
    index = prefixes_.evict();
    if (tier_) tier_->keep(prefixes_.name(index), block(index));
  }
  references_[index] = 1;
  return index;
}

void KvPool::share_block(uint32_t index) { prefixes_.reuse(index, references_[index]++ == 0); }

void KvPool::drop_block(uint32_t index) {
  if (--references_[index] > 0) return;
  if (prefixes_.contains(index)) {
    prefixes_.release(index);
  } else {
    free_.push_back(index);
  }
}

}  // namespace streamserve
