// Byte-level byte-pair encoding over words of bytes.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/byte_strings.h"
#include "text/pair_table.h"

namespace streamserve {

// Strings end to end, as callers hold them; `ends[i]` is where string i ends.
struct StringList {
  std::string_view text;
  std::span<const uint32_t> ends;

  size_t size() const { return ends.size(); }
  std::string_view operator[](size_t i) const {
    const uint32_t begin = i == 0 ? 0 : ends[i - 1];
    return text.substr(begin, ends[i] - begin);
  }
  // Whether each string ends after the one before it, and within the text.
  bool sound() const;
};

// Of all neighbours in a word that a merge joins, those of the lowest rank are joined, the leftmost of
// equals; until none are left. The ids are those of Hugging Face's tokenizers. One thread uses it at a time.
class BytePairs {
 public:
  // `tokens`: byte-level text (GPT-2's characters for bytes) of each id; other text is no word's. `merges`:
  // "left right", first to be merged first. `apart`: texts that are cut out before there are words, and that
  // no word becomes. Throws `model_file_invalid` for a merge that is no pair.
  BytePairs(const StringList& tokens, const StringList& merges, const StringList& apart);

  // Writes the ids of a word to `ids`, at most one a byte, and returns how many. `whole`: a word that is a
  // token is that token, whatever its merges make of it.
  size_t encode(std::string_view word, bool whole, std::span<uint32_t> ids);

 private:
  uint32_t symbol(std::string_view bytes);
  bool is_token(uint32_t symbol) const { return symbol < made_.size() && made_[symbol]; }
  // Queues the symbol at `left` and the next, if they are joined.
  void consider(uint32_t left);
  size_t put(uint32_t symbol, std::span<uint32_t> ids) const;

  // Bytes of a symbol: a token's is its id; what merges alone know has a number beyond the ids.
  ByteStrings symbols_;
  PairTable pairs_;
  // By id: whether merging makes it.
  std::vector<bool> made_;
  std::array<uint32_t, 256> of_byte_{};

  // Of the word at hand; next and previous by place, kNone at the ends.
  struct Place {
    uint32_t symbol;
    uint32_t next;
    uint32_t previous;
  };
  std::vector<Place> places_;
  // Heap of rank << 32 | place of the left one.
  std::vector<uint64_t> queue_;
};

}  // namespace streamserve
