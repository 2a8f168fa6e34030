// Cached prefix blocks that gave way, kept in a file between starts. docs/decisions/prefix-tier.md gives the
// reasons.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "kv/memory.h"
#include "kv/sequence.h"

namespace streamserve {

struct PrefixTierOptions {
  // Made if it is missing; empty: no tier.
  std::string directory;
  // What the file may take.
  uint64_t most_bytes = 0;
};

// All that must agree for a block of one process to serve another.
struct PrefixTierContents {
  // Of the model, how it is computed, and the layout of its KV.
  std::array<uint8_t, 16> model{};
  size_t block_bytes = 0;
  uint32_t block_tokens = 0;
};

// Names a block: the chain that ends with it, the chain before it, and its own tokens.
struct BlockName {
  ChainHash hash;
  ChainHash parent;
  std::span<const uint32_t> tokens;
};

struct PrefixTierCounts {
  uint64_t slots = 0;
  uint64_t held = 0;
  // Blocks, since it was opened.
  uint64_t read = 0;
  uint64_t written = 0;
  // Not written, because more came than could be written meanwhile, or the disk refuses.
  uint64_t dropped = 0;
  // Found damaged or unreadable.
  uint64_t damaged = 0;
};

// Thread-safe. Blocks are written by a thread of its own and read by whoever asks.
class PrefixTier {
 public:
  // The file of these contents in the directory. Nothing, with `notice` for people, if it can't be had: then
  // the pool works as without. A file that is damaged, or another's, is begun anew, with a notice too.
  static std::unique_ptr<PrefixTier> open(const PrefixTierOptions& options,
                                          const PrefixTierContents& contents, std::string& notice);
  // Writes what waits, and closes.
  ~PrefixTier();
  PrefixTier(const PrefixTier&) = delete;
  PrefixTier& operator=(const PrefixTier&) = delete;

  // Where chains begin: the file's, so that chains of an earlier process are found.
  const ChainHash& root() const { return root_; }
  bool holds(const BlockName& name) const;
  // Copies a block to be written later, unless it is held already or too much waits.
  void keep(const BlockName& name, const uint16_t* block);
  // Waits until what was kept so far is written.
  void flush();
  // Fills `block`; false, and the block is forgotten, when it is not held or damaged.
  bool read(const BlockName& name, uint16_t* block);
  // Whether reading a block is expected to take less than `compute_ns`; 0: not known, and reading is tried.
  bool pays(double compute_ns);
  PrefixTierCounts counts() const;

 private:
  struct Slot {
    bool held = false;
    bool writing = false;
    // Asked for since the hand last passed.
    bool used = false;
    uint32_t readers = 0;
    uint64_t sum = 0;
    ChainHash hash;
    ChainHash parent;
    std::vector<uint32_t> tokens;
  };
  struct HashOf {
    size_t operator()(const ChainHash& hash) const { return hash.low; }
  };

  PrefixTier(int file, const PrefixTierContents& contents, uint64_t slots, const ChainHash& root);
  void load();
  void write_loop();
  // A slot to write into, emptied; slots_.size() when all are being read.
  size_t choose_slot();
  bool write_slot(size_t index, const uint8_t* block);
  void forget(size_t index);
  const Slot* find(const BlockName& name, size_t& index) const;
  uint8_t* staged(size_t buffer) const;
  uint64_t entry_at(size_t index) const;
  uint64_t data_at(size_t index) const;

  const int file_;
  const PrefixTierContents contents_;
  const ChainHash root_;
  mutable std::mutex lock_;
  std::condition_variable changed_;
  std::vector<Slot> slots_;
  std::unordered_map<ChainHash, size_t, HashOf> index_;
  // Slots that hold nothing, the first last.
  std::vector<size_t> empty_;
  size_t hand_ = 0;
  // Blocks that wait to be written: names and the buffers that hold them.
  struct Waiting {
    ChainHash hash;
    ChainHash parent;
    std::vector<uint32_t> tokens;
    size_t buffer;
  };
  std::deque<Waiting> waiting_;
  std::vector<size_t> free_buffers_;
  size_t buffers_ = 0;
  KvMemory staging_;
  bool writing_ = false;
  bool stopping_ = false;
  // The disk has refused: nothing more is written.
  bool refused_ = false;
  // Of reading a block, as learnt; 0: never read.
  double read_ns_ = 0;
  uint32_t declined_ = 0;
  PrefixTierCounts counts_;
  std::thread writer_;
};

}  // namespace streamserve
