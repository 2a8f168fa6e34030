// Large zeroed memory whose pages are taken as they are touched.
#pragma once

#include <cstddef>
#include <cstdint>

namespace streamserve {

// Anonymous memory of its own mapping, given back when it goes. Throws `out_of_memory`, also when it asks for
// more than the machine has.
class LargeMemory {
 public:
  LargeMemory() = default;
  explicit LargeMemory(size_t bytes, const char* purpose);
  ~LargeMemory();
  LargeMemory(LargeMemory&& other) noexcept;
  LargeMemory& operator=(LargeMemory&& other) noexcept;

  uint8_t* bytes() const { return bytes_; }
  size_t size() const { return size_; }

 private:
  uint8_t* bytes_ = nullptr;
  size_t size_ = 0;
};

// The 16-bit words of a KV pool.
class KvMemory {
 public:
  KvMemory() = default;
  explicit KvMemory(size_t words) : memory_(words * sizeof(uint16_t), "the KV pool (engine.kvTokens)") {}
  uint16_t* data() const { return reinterpret_cast<uint16_t*>(memory_.bytes()); }

 private:
  LargeMemory memory_;
};

}  // namespace streamserve
