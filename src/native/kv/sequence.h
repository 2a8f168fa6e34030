// A sequence of tokens and the KV blocks that hold it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "sampling/sampler.h"

namespace streamserve {

// Names a sequence; `epoch` catches handles that outlived it.
struct SequenceHandle {
  uint32_t index = 0;
  uint32_t epoch = 0;
};

// Hash of a chain of full blocks: it names the tokens of a block and of all before it.
struct ChainHash {
  uint64_t low = 0;
  uint64_t high = 0;
  bool operator==(const ChainHash&) const = default;
};

// Owned by the pool. Its lane alone reads and changes the content; `owner`, `heir` and `epoch` are guarded by
// the pool's lock.
struct Sequence {
  // Its place in the pool's table.
  uint32_t index = 0;
  uint32_t epoch = 1;
  bool live = false;
  // Lane that may step it.
  uint32_t owner = 0;
  // Lane that it was handed to and that has not adopted it yet, or kNoLane.
  uint32_t heir = 0;
  // Its owner has been opened anew since it was handed over.
  bool stranded = false;
  // Part of a step under way; release waits for its end.
  bool in_step = false;
  bool release_after_step = false;

  // Tokens in the KV; `blocks` has room for all of them.
  std::vector<uint32_t> tokens;
  std::vector<uint32_t> blocks;
  // Where each block is, as the attention kernel wants them.
  std::vector<const uint16_t*> addresses;
  // Full blocks whose chain hash is known, and the hash of the last of them.
  uint32_t hashed_blocks = 0;
  // Last tokens that cut() may take back: blocks that hold them are not shared yet.
  uint32_t unsure = 0;
  // Leading blocks that were found, not computed.
  uint32_t found_blocks = 0;
  ChainHash chain;
  // How its tokens are drawn, with the history that penalties need. Set while it lives.
  std::optional<Sampler> sampler;
};

inline constexpr uint32_t kNoLane = ~uint32_t{0};

}  // namespace streamserve
