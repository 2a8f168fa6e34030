// Short strings of bytes and the numbers they have: an open-addressing hash table.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace streamserve {

class ByteStrings {
 public:
  // For numbers from 0 to `count` - 1, and more as they are added; `bytes`: of all together, about.
  ByteStrings(uint32_t count, size_t bytes);

  // The number of these bytes; -1 if they have none.
  int32_t find(std::string_view bytes) const;
  // Gives these bytes a number below the count; another that had them before loses them.
  void set(std::string_view bytes, uint32_t number);
  // Gives these bytes, which must have none, the next number from the count on.
  uint32_t add(std::string_view bytes);
  // Valid until the next change; empty for numbers that have no bytes.
  std::string_view operator[](uint32_t number) const;

 private:
  struct Range {
    uint32_t begin = 0;
    uint32_t end = 0;
  };

  // Where these bytes are, or would be put.
  size_t slot(std::string_view bytes) const;
  void grow();

  // Number + 1; 0 where a slot is free.
  std::vector<uint32_t> slots_;
  std::vector<Range> ranges_;
  std::string text_;
  uint32_t taken_ = 0;
};

}  // namespace streamserve
