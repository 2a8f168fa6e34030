#include "text/byte_strings.h"

#include <bit>
#include <utility>

namespace streamserve {
namespace {

// Probes stay short while at most half of the slots are taken.
constexpr size_t kSlotsEach = 2;

// Fowler, Noll and Vo's FNV-1a, and a last step of Murmur3's for the low bits.
uint32_t hash_of(std::string_view bytes) {
  uint32_t hash = 0x811c9dc5;
  for (const char byte : bytes) hash = (hash ^ static_cast<uint8_t>(byte)) * 0x01000193;
  hash = (hash ^ (hash >> 15)) * 0x85ebca6b;
  return hash ^ (hash >> 13);
}

}  // namespace

ByteStrings::ByteStrings(uint32_t count, size_t bytes)
    : slots_(std::bit_ceil(kSlotsEach * (size_t{count} + 256))), ranges_(count) {
  text_.reserve(bytes);
}

int32_t ByteStrings::find(std::string_view bytes) const {
  return static_cast<int32_t>(slots_[slot(bytes)]) - 1;
}

void ByteStrings::set(std::string_view bytes, uint32_t number) {
  const size_t at = slot(bytes);
  if (slots_[at] == 0) ++taken_;
  slots_[at] = number + 1;
  const auto begin = static_cast<uint32_t>(text_.size());
  text_ += bytes;
  ranges_[number] = {begin, static_cast<uint32_t>(text_.size())};
}

uint32_t ByteStrings::add(std::string_view bytes) {
  if (kSlotsEach * (taken_ + 1) > slots_.size()) grow();
  const auto number = static_cast<uint32_t>(ranges_.size());
  ranges_.emplace_back();
  set(bytes, number);
  return number;
}

std::string_view ByteStrings::operator[](uint32_t number) const {
  const Range range = ranges_[number];
  return std::string_view(text_).substr(range.begin, range.end - range.begin);
}

size_t ByteStrings::slot(std::string_view bytes) const {
  const size_t mask = slots_.size() - 1;
  size_t at = hash_of(bytes) & mask;
  while (slots_[at] != 0 && (*this)[slots_[at] - 1] != bytes) at = (at + 1) & mask;
  return at;
}

void ByteStrings::grow() {
  const std::vector<uint32_t> old = std::exchange(slots_, std::vector<uint32_t>(2 * slots_.size()));
  for (const uint32_t entry : old) {
    if (entry != 0) slots_[slot((*this)[entry - 1])] = entry;
  }
}

}  // namespace streamserve
