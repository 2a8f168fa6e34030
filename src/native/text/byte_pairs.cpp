#include "text/byte_pairs.h"

#include <algorithm>
#include <functional>

#include "error.h"

namespace streamserve {
namespace {

constexpr uint32_t kNone = ~uint32_t{0};

// Character -> byte. Printable Latin-1 stands for itself, U+0100 onwards for the other bytes in order.
class ByteCharacters {
 public:
  ByteCharacters() {
    bytes_.fill(-1);
    uint32_t shifted = 0x100;
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
      bytes_[printable ? byte : shifted++] = static_cast<int16_t>(byte);
    }
  }

  // Appends the bytes that `text` stands for; false if a character stands for none.
  bool decode(std::string_view text, std::string& out) const {
    for (size_t i = 0; i < text.size(); ++i) {
      const auto lead = static_cast<uint8_t>(text[i]);
      uint32_t code = lead;
      // All of these characters have one or two bytes in UTF-8.
      if (lead >= 0x80) {
        const uint8_t second = ++i < text.size() ? static_cast<uint8_t>(text[i]) : 0;
        if (lead < 0xc2 || lead > 0xdf || (second & 0xc0) != 0x80) return false;
        code = (lead & 0x1fu) << 6 | (second & 0x3fu);
      }
      if (code >= bytes_.size() || bytes_[code] < 0) return false;
      out.push_back(static_cast<char>(bytes_[code]));
    }
    return true;
  }

 private:
  std::array<int16_t, 0x144> bytes_;
};

}  // namespace

bool StringList::sound() const {
  return std::is_sorted(ends.begin(), ends.end()) && (ends.empty() || ends.back() <= text.size());
}

BytePairs::BytePairs(const StringList& tokens, const StringList& merges, const StringList& apart)
    : symbols_(static_cast<uint32_t>(tokens.size()), tokens.text.size()),
      pairs_(merges.size()),
      made_(tokens.size()) {
  const ByteCharacters characters;
  std::string bytes;
  for (uint32_t id = 0; id < tokens.size(); ++id) {
    bytes.clear();
    if (tokens[id].empty() || !characters.decode(tokens[id], bytes)) continue;
    symbols_.set(bytes, id);
    made_[id] = true;
  }
  for (size_t i = 0; i < apart.size(); ++i) {
    bytes.clear();
    const int32_t id = characters.decode(apart[i], bytes) ? symbols_.find(bytes) : -1;
    if (id >= 0) made_[id] = false;
  }
  for (uint32_t byte = 0; byte < 256; ++byte) {
    of_byte_[byte] = symbol(std::string(1, static_cast<char>(byte)));
  }
  for (uint32_t rank = 0; rank < merges.size(); ++rank) {
    const std::string_view merge = merges[rank];
    const size_t space = merge.find(' ', 1);
    if (space == std::string_view::npos) {
      throw EngineError(ErrorCode::kModelFileInvalid, "The model file's tokenizer is broken: merge " +
                                                          std::to_string(rank) + " is not a pair.");
    }
    bytes.clear();
    // What is no byte-level text never comes up in a word.
    if (!characters.decode(merge.substr(0, space), bytes)) continue;
    const size_t left = bytes.size();
    if (!characters.decode(merge.substr(space + 1), bytes) || bytes.size() == left) continue;
    const std::string_view both = bytes;
    pairs_.set({symbol(both.substr(0, left)), symbol(both.substr(left)), rank, symbol(both)});
  }
}

uint32_t BytePairs::symbol(std::string_view bytes) {
  const int32_t known = symbols_.find(bytes);
  return known >= 0 ? static_cast<uint32_t>(known) : symbols_.add(bytes);
}

size_t BytePairs::encode(std::string_view word, bool whole, std::span<uint32_t> ids) {
  if (whole) {
    const int32_t id = symbols_.find(word);
    if (id >= 0 && is_token(static_cast<uint32_t>(id))) return put(static_cast<uint32_t>(id), ids);
  }
  const auto count = static_cast<uint32_t>(word.size());
  places_.resize(count);
  for (uint32_t at = 0; at < count; ++at) {
    places_[at] = {of_byte_[static_cast<uint8_t>(word[at])], at + 1 < count ? at + 1 : kNone,
                   at > 0 ? at - 1 : kNone};
  }
  queue_.clear();
  for (uint32_t at = 0; at < count; ++at) consider(at);
  while (!queue_.empty()) {
    std::pop_heap(queue_.begin(), queue_.end(), std::greater<>());
    const uint64_t best = queue_.back();
    queue_.pop_back();
    const auto at = static_cast<uint32_t>(best);
    Place& left = places_[at];
    if (left.symbol == kNone || left.next == kNone) continue;
    Place& right = places_[left.next];
    const PairTable::Join* join = pairs_.find(left.symbol, right.symbol);
    // Stale when either has been joined to something else since.
    if (!join || join->rank != best >> 32) continue;
    left.symbol = join->joined;
    right.symbol = kNone;
    left.next = right.next;
    if (left.next != kNone) {
      places_[left.next].previous = at;
      consider(at);
    }
    if (left.previous != kNone) consider(left.previous);
  }
  size_t written = 0;
  for (uint32_t at = count > 0 ? 0 : kNone; at != kNone; at = places_[at].next) {
    written += put(places_[at].symbol, ids.subspan(written));
  }
  return written;
}

void BytePairs::consider(uint32_t left) {
  const Place& place = places_[left];
  if (place.next == kNone) return;
  const PairTable::Join* join = pairs_.find(place.symbol, places_[place.next].symbol);
  if (!join) return;
  queue_.push_back(uint64_t{join->rank} << 32 | left);
  std::push_heap(queue_.begin(), queue_.end(), std::greater<>());
}

size_t BytePairs::put(uint32_t symbol, std::span<uint32_t> ids) const {
  if (is_token(symbol)) {
    ids[0] = symbol;
    return 1;
  }
  // What merges make and no token is, in a table that lacks it: byte by byte, so that no text is lost.
  size_t written = 0;
  for (const char byte : symbols_[symbol]) {
    const uint32_t id = of_byte_[static_cast<uint8_t>(byte)];
    if (is_token(id)) ids[written++] = id;
  }
  return written;
}

}  // namespace streamserve
