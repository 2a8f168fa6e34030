#include <map>
#include <random>
#include <set>
#include <vector>

#include "error.h"
#include "kv/pool.h"
#include "unit_test.h"

namespace streamserve {
namespace {

constexpr uint32_t kBlockTokens = 4;
constexpr KvLayout kLayout{1, 1, 16, kBlockTokens};

Sampler sampler() { return Sampler(SamplingParams{}); }

// Computes a whole prompt of `blocks` full blocks that begin with `first`, as a lane would; gives what was
// found.
uint32_t serve(KvPool& pool, std::span<const uint32_t> prompt, const ChainHash& salt = {}) {
  uint32_t cached = 0;
  const SequenceHandle handle = pool.create(0, prompt, sampler(), cached, salt);
  Sequence& sequence = pool.get(0, handle);
  const auto rest = static_cast<uint32_t>(prompt.size()) - cached;
  const Growth growth{&sequence, rest};
  pool.grow({&growth, 1});
  sequence.tokens.insert(sequence.tokens.end(), prompt.end() - rest, prompt.end());
  pool.settle(sequence);
  pool.release(0, handle);
  return cached;
}

// Prompt whose block b is made of ids[b], and one token more: it is always computed.
std::vector<uint32_t> prompt_of(const std::vector<uint32_t>& ids) {
  std::vector<uint32_t> prompt;
  for (const uint32_t id : ids) prompt.insert(prompt.end(), kBlockTokens, id);
  prompt.push_back(0);
  return prompt;
}

}  // namespace

UNIT_TEST(kv_prefixes_in_use_again_and_again_outlive_a_sweep_of_new_ones) {
  KvPool pool(kLayout, 64);
  const auto shared = prompt_of({1, 2, 3, 4, 5, 6, 7, 8});
  uint32_t next = 100;
  uint32_t found = 0;
  for (uint32_t round = 0; round < 400; ++round) {
    // Nine prompts nobody repeats, 72 blocks: more than the pool holds. Least recently used would find
    // nothing.
    for (uint32_t i = 0; i < 9; ++i) {
      std::vector<uint32_t> ids(8);
      for (uint32_t& id : ids) id = next++;
      serve(pool, prompt_of(ids));
    }
    if (serve(pool, shared) == 8 * kBlockTokens && round >= 200) ++found;
  }
  CHECK(found >= 190);
}

UNIT_TEST(kv_equal_blocks_computed_twice_become_one) {
  KvPool pool(kLayout, 16);
  const auto prompt = prompt_of({1, 2, 3});
  uint32_t cached = 0;
  const SequenceHandle a = pool.create(0, prompt, sampler(), cached);
  const SequenceHandle b = pool.create(0, prompt, sampler(), cached);
  CHECK_EQUAL(cached, 0u);
  for (const SequenceHandle handle : {a, b}) {
    Sequence& sequence = pool.get(0, handle);
    const Growth growth{&sequence, static_cast<uint32_t>(prompt.size())};
    pool.grow({&growth, 1});
    sequence.tokens = prompt;
    pool.settle(sequence);
  }
  // Three shared blocks, and one begun by each.
  CHECK_EQUAL(pool.counts().used, 5u);
  CHECK(pool.get(0, a).blocks[2] == pool.get(0, b).blocks[2]);
  CHECK(pool.get(0, b).addresses[2] == pool.block(pool.get(0, b).blocks[2]));
}

UNIT_TEST(kv_sequences_of_different_salts_share_nothing) {
  KvPool pool(kLayout, 32);
  const auto prompt = prompt_of({1, 2, 3});
  CHECK_EQUAL(serve(pool, prompt, {7, 1}), 0u);
  CHECK_EQUAL(serve(pool, prompt, {7, 2}), 0u);
  CHECK_EQUAL(serve(pool, prompt), 0u);
  CHECK_EQUAL(serve(pool, prompt, {7, 1}), 3 * kBlockTokens);
  CHECK_EQUAL(serve(pool, prompt), 3 * kBlockTokens);
}

// The tree against a plain model of it: who is a node, whose child, and held by whom.
UNIT_TEST(kv_the_tree_gives_up_idle_leaves_alone) {
  constexpr uint32_t kBlocks = 24;
  PrefixCache cache(kBlocks, kBlockTokens, 64);
  std::mt19937 random(3);
  std::map<uint32_t, uint32_t> parent;  // of each node, or kNoBlock
  std::map<uint32_t, uint32_t> holders;
  std::set<uint32_t> free;
  for (uint32_t block = 0; block < kBlocks; ++block) free.insert(block);
  const auto has_children = [&](uint32_t block) {
    for (const auto& [child, above] : parent) {
      if (above == block) return true;
    }
    return false;
  };
  const auto release_path = [&](uint32_t block) {
    for (; block != kNoBlock; block = parent.at(block)) {
      if (--holders[block] == 0) cache.release(block);
    }
  };
  const auto hold_path = [&](uint32_t block) {
    for (; block != kNoBlock; block = parent.at(block)) cache.reuse(block, holders[block]++ == 0);
  };
  std::vector<uint32_t> held;  // ends of paths that somebody holds
  uint64_t serial = 1;
  for (int turn = 0; turn < 20000; ++turn) {
    if (random() % 3 != 0 || held.empty()) {
      // A new path: from a random node, or the root, one block on.
      uint32_t above = kNoBlock;
      if (!parent.empty() && random() % 4 != 0) {
        auto at = parent.begin();
        std::advance(at, random() % parent.size());
        above = at->first;
        hold_path(above);
      }
      uint32_t block = kNoBlock;
      if (!free.empty()) {
        block = *free.begin();
        free.erase(free.begin());
      } else {
        uint32_t idle = 0;
        for (const auto& [node, count] : holders) idle += count == 0 ? 1 : 0;
        CHECK_EQUAL(cache.idle(), idle);
        block = cache.evict();
        if (idle == 0) CHECK_EQUAL(block, kNoBlock);
        if (block == kNoBlock) {
          if (above != kNoBlock) release_path(above);
          continue;
        }
        CHECK_EQUAL(holders.at(block), 0u);
        CHECK(!has_children(block));
        CHECK(!cache.contains(block));
        parent.erase(block);
        holders.erase(block);
      }
      const std::vector<uint32_t> tokens(kBlockTokens, static_cast<uint32_t>(serial));
      CHECK(cache.insert(block, {serial, serial * 77}, {serial, 1}, tokens, above, true));
      ++serial;
      parent[block] = above;
      holders[block] = 1;
      held.push_back(block);
    } else {
      const size_t which = random() % held.size();
      release_path(held[which]);
      held.erase(held.begin() + static_cast<std::ptrdiff_t>(which));
    }
  }
  CHECK(cache.evictions() > 1000);
}

// test/prefix-index.test.ts plays the same trace on the simulated pool's index: the two must do the same.
UNIT_TEST(kv_native_and_simulated_policy_find_the_same_blocks) {
  KvPool pool(kLayout, 96);
  uint32_t state = 12345;
  const auto draw = [&state](uint32_t below) {
    state = state * 1664525 + 1013904223;
    return (state >> 8) % below;
  };
  std::vector<std::vector<uint32_t>> chats(12);
  uint32_t next = 1000;
  for (int request = 0; request < 3000; ++request) {
    std::vector<uint32_t> ids;
    const uint32_t kind = draw(10);
    if (kind < 5) {
      std::vector<uint32_t>& chat = chats[draw(12)];
      if (chat.empty() || chat.size() > 20) chat = {1, 2};
      for (uint32_t i = 0; i < 2; ++i) chat.push_back(next++);
      ids = chat;
    } else if (kind < 8) {
      ids = {10 + draw(6), 20, 21, next++};
    } else {
      for (uint32_t i = 0; i < 12; ++i) ids.push_back(next++);
    }
    serve(pool, prompt_of(ids));
  }
  const KvCounts counts = pool.counts();
  CHECK_EQUAL(counts.prefix_hits, 11674u);
  CHECK_EQUAL(counts.prefix_misses, 18234u);
}

}  // namespace streamserve
