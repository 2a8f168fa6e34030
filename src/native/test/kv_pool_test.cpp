#include <random>
#include <thread>
#include <vector>

#include "error.h"
#include "kv/pool.h"
#include "unit_test.h"

namespace streamserve {
namespace {

constexpr KvLayout kLayout{1, 1, 16, 4};

Sampler sampler() { return Sampler(SamplingParams{}); }

void check_whole(const KvPool& pool) {
  const KvCounts counts = pool.counts();
  CHECK_EQUAL(counts.free + counts.cached + counts.used, counts.total);
}

// What a step does to a sequence's tokens and blocks.
void append(KvPool& pool, Sequence& sequence, const std::vector<uint32_t>& tokens) {
  const Growth growth{&sequence, static_cast<uint32_t>(tokens.size())};
  pool.grow({&growth, 1});
  sequence.tokens.insert(sequence.tokens.end(), tokens.begin(), tokens.end());
  pool.settle(sequence);
}

std::vector<uint32_t> counting(uint32_t from, uint32_t count) {
  std::vector<uint32_t> tokens(count);
  for (uint32_t i = 0; i < count; ++i) tokens[i] = from + i;
  return tokens;
}

}  // namespace

UNIT_TEST(kv_prefix_is_shared_and_outlives_its_sequence) {
  KvPool pool(kLayout, 8);
  uint32_t cached = 0;
  const auto prompt = counting(0, 10);
  const SequenceHandle a = pool.create(0, prompt, sampler(), cached);
  CHECK_EQUAL(cached, 0u);
  append(pool, pool.get(0, a), prompt);
  const SequenceHandle b = pool.create(0, prompt, sampler(), cached);
  CHECK_EQUAL(cached, 8u);
  CHECK(pool.get(0, b).blocks[0] == pool.get(0, a).blocks[0]);
  CHECK_EQUAL(pool.counts().used, 3u);
  pool.release(0, a);
  pool.release(0, b);
  CHECK_EQUAL(pool.counts().cached, 2u);
  pool.create(0, prompt, sampler(), cached);
  CHECK_EQUAL(cached, 8u);
  check_whole(pool);
}

UNIT_TEST(kv_cached_blocks_give_way_oldest_first_and_from_the_end_of_a_chain) {
  KvPool pool(kLayout, 4);
  uint32_t cached = 0;
  const auto prompt = counting(0, 9);
  const SequenceHandle a = pool.create(0, prompt, sampler(), cached);
  append(pool, pool.get(0, a), counting(0, 8));
  pool.release(0, a);
  CHECK_EQUAL(pool.counts().cached, 2u);
  const auto other = counting(100, 12);
  const SequenceHandle b = pool.create(0, other, sampler(), cached);
  append(pool, pool.get(0, b), other);
  // Three of four blocks are taken: of the old chain the beginning is left.
  pool.create(0, prompt, sampler(), cached);
  CHECK_EQUAL(cached, 4u);
  check_whole(pool);
}

UNIT_TEST(kv_rejected_drafts_leave_neither_blocks_nor_hashes) {
  KvPool pool(kLayout, 8);
  uint32_t cached = 0;
  const SequenceHandle a = pool.create(0, counting(0, 3), sampler(), cached);
  Sequence& sequence = pool.get(0, a);
  append(pool, sequence, counting(0, 3));
  const Growth growth{&sequence, 6};
  pool.grow({&growth, 1});
  const auto drafts = counting(50, 6);
  sequence.tokens.insert(sequence.tokens.end(), drafts.begin(), drafts.end());
  sequence.tokens.resize(4);
  pool.settle(sequence);
  CHECK_EQUAL(pool.counts().used, 1u);
  std::vector<uint32_t> guess = counting(0, 3);
  guess.insert(guess.end(), drafts.begin(), drafts.end());
  pool.create(0, guess, sampler(), cached);
  CHECK_EQUAL(cached, 4u);
  check_whole(pool);
}

UNIT_TEST(kv_unsure_tokens_can_be_cut_and_are_shared_only_once_they_are_sure) {
  KvPool pool(kLayout, 8);
  uint32_t cached = 0;
  const SequenceHandle a = pool.create(0, counting(0, 3), sampler(), cached, {}, 4);
  Sequence& sequence = pool.get(0, a);
  append(pool, sequence, counting(0, 5));
  append(pool, sequence, counting(50, 4));
  // Nine tokens, of which five are sure: a block of four.
  CHECK_EQUAL(sequence.hashed_blocks, 1u);
  const auto refused = [&](uint32_t tokens) {
    try {
      pool.cut(0, a, tokens);
    } catch (const EngineError& error) {
      return error.code() == ErrorCode::kArgumentInvalid;
    }
    return false;
  };
  CHECK(refused(3));
  CHECK(refused(10));
  pool.cut(0, a, 5);
  CHECK_EQUAL(pool.counts().used, 2u);
  append(pool, sequence, counting(5, 7));
  std::vector<uint32_t> guessed = counting(0, 5);
  const auto guess = counting(50, 8);
  guessed.insert(guessed.end(), guess.begin(), guess.end());
  pool.create(0, guessed, sampler(), cached);
  CHECK_EQUAL(cached, 4u);
  pool.create(0, counting(0, 12), sampler(), cached);
  CHECK_EQUAL(cached, 8u);
  check_whole(pool);
}

UNIT_TEST(kv_chains_begin_anew_in_every_pool) {
  const auto chain_of = [] {
    KvPool pool(kLayout, 2);
    uint32_t cached = 0;
    const SequenceHandle a = pool.create(0, counting(0, 3), sampler(), cached);
    return pool.get(0, a).chain;
  };
  CHECK(!(chain_of() == chain_of()));
}

UNIT_TEST(kv_int8_takes_a_byte_a_value_and_a_scale_a_token) {
  const KvLayout f16{2, 3, 64, 32};
  const KvLayout int8{2, 3, 64, 32, KvFormat::kInt8};
  CHECK_EQUAL(KvPool(f16, 5).bytes(), size_t{5} * 2 * 3 * 2 * 32 * 64 * 2);
  CHECK_EQUAL(KvPool(int8, 5).bytes(), size_t{5} * 2 * 3 * 2 * 32 * (64 + 4));
  // Parts begin at multiples of 64 bytes, where vectors are loaded from.
  CHECK_EQUAL(int8.value_offset(1, 2) * 2 % 64, size_t{0});
  CHECK_EQUAL(int8.value_offset(1, 2) + int8.part_words(), int8.block_words());
}

UNIT_TEST(kv_exhaustion_changes_nothing) {
  KvPool pool(kLayout, 2);
  uint32_t cached = 0;
  const SequenceHandle a = pool.create(0, counting(0, 3), sampler(), cached);
  const SequenceHandle b = pool.create(0, counting(0, 3), sampler(), cached);
  const Growth rows[] = {{&pool.get(0, a), 5}, {&pool.get(0, b), 1}};
  bool refused = false;
  try {
    pool.grow(rows);
  } catch (const EngineError& error) {
    refused = error.code() == ErrorCode::kKvExhausted;
  }
  CHECK(refused);
  CHECK_EQUAL(pool.counts().free, 2u);
  CHECK(!pool.get(0, a).in_step);
}

UNIT_TEST(kv_lanes_on_threads_never_lose_a_block) {
  KvPool pool(kLayout, 64);
  std::vector<std::thread> lanes;
  for (uint32_t lane = 0; lane < 4; ++lane) {
    lanes.emplace_back([&pool, lane] {
      std::mt19937 random(lane);
      std::vector<SequenceHandle> mine;
      for (int i = 0; i < 2000; ++i) {
        uint32_t cached = 0;
        try {
          if (random() % 3 == 0) {
            mine.push_back(pool.create(lane, counting(random() % 3, 1 + random() % 20), sampler(), cached));
          } else if (!mine.empty()) {
            const SequenceHandle handle = mine[random() % mine.size()];
            switch (random() % 5) {
              case 0:
                pool.release(lane, handle);
                break;
              case 1:
                pool.hand_over(lane, handle, (lane + 1) % 4);
                break;
              case 2:
                pool.adopt(lane, handle);
                break;
              case 3:
                pool.release_stranded(lane);
                break;
              default:
                append(pool, pool.get(lane, handle), counting(random() % 3, 1 + random() % 9));
            }
          }
        } catch (const EngineError&) {
          // Stale handles and a full pool are part of the game.
        }
        if (i % 500 == 499) pool.reclaim(lane);
      }
    });
  }
  for (std::thread& lane : lanes) lane.join();
  for (uint32_t lane = 0; lane < 4; ++lane) pool.reclaim(lane);
  check_whole(pool);
  CHECK_EQUAL(pool.counts().used, 0u);
  CHECK_EQUAL(pool.counts().sequences, 0u);
}

}  // namespace streamserve
