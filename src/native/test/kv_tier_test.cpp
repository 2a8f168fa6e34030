#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "kv/pool.h"
#include "kv/prefix_tier.h"
#include "unit_test.h"

namespace streamserve {
namespace {

namespace fs = std::filesystem;

constexpr uint32_t kBlockTokens = 4;
constexpr KvLayout kLayout{1, 1, 16, kBlockTokens};
constexpr uint64_t kRoomy = 1 << 20;

class Directory {
 public:
  Directory() : path_(fs::temp_directory_path() / ("streamserve-tier-" + std::to_string(::getpid()))) {
    fs::remove_all(path_);
  }
  ~Directory() { fs::remove_all(path_); }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;

  const fs::path& path() const { return path_; }
  fs::path file() const { return fs::directory_iterator(path_)->path(); }

 private:
  const fs::path path_;
};

size_t block_bytes() { return kLayout.block_words() * sizeof(uint16_t); }

std::unique_ptr<PrefixTier> open_tier(const Directory& directory, std::string& notice,
                                      uint64_t bytes = kRoomy, uint8_t model = 1) {
  notice.clear();
  return PrefixTier::open({directory.path().string(), bytes}, {{model}, block_bytes(), kBlockTokens}, notice);
}

std::unique_ptr<PrefixTier> open_tier(const Directory& directory, uint64_t bytes = kRoomy) {
  std::string notice;
  return open_tier(directory, notice, bytes);
}

// Every word of a block says which chain ends there.
uint16_t mark_of(std::span<const uint32_t> tokens) { return static_cast<uint16_t>(tokens.back() + 1); }

// Computes a prompt as a lane would; gives the tokens that were found. What was found must be what was
// computed.
uint32_t serve(KvPool& pool, std::span<const uint32_t> prompt, const ChainHash& salt = {}) {
  uint32_t cached = 0;
  const SequenceHandle handle = pool.create(0, prompt, Sampler(SamplingParams{}), cached, salt);
  Sequence& sequence = pool.get(0, handle);
  const auto words = [&](size_t b) {
    return std::span(pool.block(sequence.blocks[b]), kLayout.block_words());
  };
  for (size_t b = 0; b < cached / kBlockTokens; ++b) {
    for (const uint16_t word : words(b)) {
      CHECK_EQUAL(word, mark_of(prompt.subspan(b * kBlockTokens, kBlockTokens)));
    }
  }
  const auto rest = static_cast<uint32_t>(prompt.size()) - cached;
  const Growth growth{&sequence, rest};
  pool.grow({&growth, 1});
  sequence.tokens.insert(sequence.tokens.end(), prompt.end() - rest, prompt.end());
  for (size_t b = cached / kBlockTokens; b < prompt.size() / kBlockTokens; ++b) {
    for (uint16_t& word : words(b)) word = mark_of(prompt.subspan(b * kBlockTokens, kBlockTokens));
  }
  pool.settle(sequence);
  pool.release(0, handle);
  return cached;
}

// `blocks` blocks of one token number each, and a token more.
std::vector<uint32_t> prompt_of(uint32_t first, uint32_t blocks) {
  std::vector<uint32_t> prompt;
  for (uint32_t b = 0; b < blocks; ++b) prompt.insert(prompt.end(), kBlockTokens, first + b);
  prompt.push_back(0);
  return prompt;
}

void damage(const fs::path& file, size_t offset) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekg(static_cast<std::streamoff>(offset));
  const auto byte = static_cast<char>(stream.get() ^ 0x55);
  stream.seekp(static_cast<std::streamoff>(offset));
  stream.put(byte);
}

}  // namespace

UNIT_TEST(tier_gives_back_what_gave_way) {
  const Directory directory;
  KvPool pool(kLayout, 10, open_tier(directory));
  CHECK_EQUAL(serve(pool, prompt_of(10, 8)), 0u);
  // Takes all blocks.
  CHECK_EQUAL(serve(pool, prompt_of(50, 9)), 0u);
  while (pool.tier_counts().written < 8) std::this_thread::yield();
  CHECK_EQUAL(serve(pool, prompt_of(10, 8)), 8 * kBlockTokens);
  CHECK_EQUAL(pool.tier_counts().read, uint64_t{8});
  CHECK_EQUAL(pool.counts().used, 0u);
  CHECK_EQUAL(pool.counts().sequences, 0u);
}

UNIT_TEST(tier_survives_the_process_with_all_that_was_cached) {
  const Directory directory;
  {
    KvPool pool(kLayout, 10, open_tier(directory));
    CHECK_EQUAL(serve(pool, prompt_of(10, 8)), 0u);
  }
  {
    KvPool pool(kLayout, 10, open_tier(directory));
    CHECK_EQUAL(pool.tier_counts().held, uint64_t{8});
    CHECK_EQUAL(serve(pool, prompt_of(10, 8)), 8 * kBlockTokens);
  }
  CHECK((fs::status(directory.file()).permissions() & fs::perms::others_read) == fs::perms::none);
}

UNIT_TEST(tier_keeps_salts_apart) {
  const Directory directory;
  {
    KvPool pool(kLayout, 10, open_tier(directory));
    serve(pool, prompt_of(10, 8), {1, 2});
  }
  KvPool pool(kLayout, 10, open_tier(directory));
  CHECK_EQUAL(serve(pool, prompt_of(10, 8)), 0u);
  CHECK_EQUAL(serve(pool, prompt_of(10, 8), {1, 3}), 0u);
  CHECK_EQUAL(serve(pool, prompt_of(10, 8), {1, 2}), 8 * kBlockTokens);
}

UNIT_TEST(tier_ignores_damage) {
  const Directory directory;
  {
    KvPool pool(kLayout, 10, open_tier(directory));
    serve(pool, prompt_of(10, 8));
  }
  const size_t size = fs::file_size(directory.file());
  // The last block that was written: the end of the chain.
  damage(directory.file(), size - 1);
  {
    KvPool pool(kLayout, 10, open_tier(directory));
    CHECK_EQUAL(serve(pool, prompt_of(10, 8)), 7 * kBlockTokens);
    CHECK_EQUAL(pool.tier_counts().damaged, uint64_t{1});
  }
  // The entry of the first slot: the beginning of the chain.
  damage(directory.file(), 4096 + 20);
  {
    KvPool pool(kLayout, 10, open_tier(directory));
    CHECK_EQUAL(serve(pool, prompt_of(10, 8)), 0u);
    CHECK_EQUAL(pool.tier_counts().damaged, uint64_t{1});
  }
  std::string notice;
  damage(directory.file(), 20);
  CHECK(open_tier(directory, notice) != nullptr);
  CHECK(notice.find("damaged") != std::string::npos);
  std::ofstream(directory.file()) << "a file of somebody else's";
  CHECK_EQUAL(open_tier(directory, notice)->counts().held, uint64_t{0});
  CHECK(notice.find("begun anew") != std::string::npos);
}

UNIT_TEST(tier_is_for_one_model_and_one_process) {
  const Directory directory;
  std::string notice;
  const auto tier = open_tier(directory, notice);
  CHECK(notice.empty());
  CHECK(open_tier(directory, notice) == nullptr);
  CHECK(notice.find("another process") != std::string::npos);
  CHECK(open_tier(directory, notice, kRoomy, 2) != nullptr);
  CHECK(notice.empty());
  CHECK(open_tier(directory, notice, block_bytes(), 3) == nullptr);
  CHECK(notice.find("engine.prefixTierBytes") != std::string::npos);
}

UNIT_TEST(tier_stays_within_its_bytes) {
  const Directory directory;
  const uint64_t bytes = 4096 + 6 * (block_bytes() + 256);
  {
    KvPool pool(kLayout, 10, open_tier(directory, bytes));
    for (uint32_t i = 1; i < 20; ++i) serve(pool, prompt_of(100 * i, 8));
  }
  CHECK(fs::file_size(directory.file()) <= bytes);
  KvPool pool(kLayout, 10, open_tier(directory, bytes));
  CHECK(pool.tier_counts().held > 0);
  CHECK(pool.tier_counts().held <= pool.tier_counts().slots);
  // What is left of a chain is right, or not used.
  for (uint32_t i = 1; i < 20; ++i) serve(pool, prompt_of(100 * i, 8));
}

UNIT_TEST(tier_lives_with_a_full_disk) {
  const Directory directory;
  auto tier = open_tier(directory);
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit full{4096, before.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &full);
  {
    KvPool pool(kLayout, 10, std::move(tier));
    CHECK_EQUAL(serve(pool, prompt_of(10, 8)), 0u);
    CHECK_EQUAL(serve(pool, prompt_of(50, 9)), 0u);
    while (pool.tier_counts().dropped == 0) std::this_thread::yield();
    CHECK_EQUAL(pool.tier_counts().written, uint64_t{0});
    CHECK_EQUAL(serve(pool, prompt_of(10, 8)), 0u);
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
}

UNIT_TEST(tier_is_not_read_where_computing_is_quicker) {
  const Directory directory;
  {
    KvPool pool(kLayout, 10, open_tier(directory));
    serve(pool, prompt_of(10, 8));
  }
  KvPool pool(kLayout, 10, open_tier(directory));
  // The first reading tells what it takes: more than this.
  pool.set_token_ns(1e-3);
  CHECK_EQUAL(serve(pool, prompt_of(10, 8)), kBlockTokens);
  CHECK_EQUAL(pool.tier_counts().read, uint64_t{1});
}

}  // namespace streamserve
