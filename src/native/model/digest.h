// Hashes of contents, to tell them apart and to find damage; no defence against somebody who wants a
// collision.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace streamserve {

using DigestBytes = std::array<uint8_t, 16>;

// 64 bits of the bytes, at the speed of memory: four independent lanes of multiply and rotate, folded at the
// end.
uint64_t checksum(std::span<const uint8_t> bytes);

// The checksum of a large range: of the checksums of its chunks, which `threads` threads compute.
uint64_t parallel_checksum(std::span<const uint8_t> bytes, uint32_t threads);

// Gathers values into 128 bits. Each value counts with its length, so that no two sequences run together.
class Digest {
 public:
  void add(std::span<const uint8_t> bytes);
  void add(std::string_view text);
  void add(uint64_t number);
  DigestBytes finish() const;

 private:
  uint64_t low_ = 0x9E3779B97F4A7C15;
  uint64_t high_ = 0xC2B2AE3D27D4EB4F;
};

// As 32 hexadecimal digits.
std::string hexadecimal(const DigestBytes& digest);

}  // namespace streamserve
