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

KvPool::KvPool(const KvLayout& layout, uint32_t blocks)
    : layout_(layout),
      total_(blocks),
      memory_(size_t{blocks} * layout.block_elements()),
      blocks_(blocks),
      prefixes_(blocks),
      root_(random_root()) {
  free_.reserve(blocks);
  for (uint32_t i = blocks; i-- > 0;) free_.push_back(i);
}

KvCounts KvPool::counts() const {
  const std::lock_guard guard(lock_);
  const uint32_t free = static_cast<uint32_t>(free_.size());
  return {total_, free, cached_, total_ - free - cached_,
          static_cast<uint32_t>(sequences_.size() - free_sequences_.size())};
}

SequenceHandle KvPool::create(uint32_t lane, std::span<const uint32_t> prompt, Sampler sampler,
                              uint32_t& cached_tokens) {
  const std::lock_guard guard(lock_);
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
  sequence.in_step = false;
  sequence.release_after_step = false;
  sequence.hashed_blocks = 0;
  sequence.chain = root_;
  sequence.sampler = std::move(sampler);

  // The last token is always computed: its logits are wanted.
  const size_t shareable = prompt.empty() ? 0 : (prompt.size() - 1) / layout_.block_tokens;
  for (size_t b = 0; b < shareable; ++b) {
    const auto tokens = prompt.subspan(b * layout_.block_tokens, layout_.block_tokens);
    const ChainHash hash = extend_chain(sequence.chain, tokens);
    const auto block = prefixes_.find(hash, sequence.chain, tokens);
    if (!block) break;
    if (blocks_[*block].references++ == 0) unlink(*block);
    append_block(sequence, *block);
    sequence.tokens.insert(sequence.tokens.end(), tokens.begin(), tokens.end());
    sequence.chain = hash;
    ++sequence.hashed_blocks;
  }
  cached_tokens = static_cast<uint32_t>(sequence.tokens.size());
  return {index, sequence.epoch};
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
}

void KvPool::reclaim(uint32_t lane) {
  const std::lock_guard guard(lock_);
  for (const auto& sequence : sequences_) {
    if (!sequence->live) continue;
    if (sequence->heir == lane || (sequence->owner == lane && sequence->heir == kNoLane)) retire(*sequence);
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
  if (wanted > free_.size() + cached_) {
    throw EngineError(ErrorCode::kKvExhausted, "The step needs " + std::to_string(wanted) +
                                                   " more KV blocks; " +
                                                   std::to_string(free_.size() + cached_) + " are free.");
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
  const size_t full = sequence.tokens.size() / layout_.block_tokens;
  for (size_t b = sequence.hashed_blocks; b < full; ++b) {
    const auto tokens =
        std::span<const uint32_t>(sequence.tokens).subspan(b * layout_.block_tokens, layout_.block_tokens);
    const ChainHash hash = extend_chain(sequence.chain, tokens);
    try {
      prefixes_.insert(sequence.blocks[b], hash, sequence.chain, tokens);
    } catch (const std::bad_alloc&) {
      // Not remembered, then: the block is only not shared.
    }
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
    index = oldest_cached_;
    unlink(index);
    prefixes_.erase(index);
  }
  blocks_[index].references = 1;
  return index;
}

void KvPool::drop_block(uint32_t index) {
  if (--blocks_[index].references > 0) return;
  if (prefixes_.contains(index)) {
    link_last(index);
  } else {
    free_.push_back(index);
  }
}

void KvPool::unlink(uint32_t index) {
  Block& block = blocks_[index];
  (block.previous == kNone ? oldest_cached_ : blocks_[block.previous].next) = block.next;
  (block.next == kNone ? newest_cached_ : blocks_[block.next].previous) = block.previous;
  block.previous = block.next = kNone;
  --cached_;
}

void KvPool::link_last(uint32_t index) {
  Block& block = blocks_[index];
  block.previous = newest_cached_;
  block.next = kNone;
  (newest_cached_ == kNone ? oldest_cached_ : blocks_[newest_cached_].next) = index;
  newest_cached_ = index;
  ++cached_;
}

}  // namespace streamserve
