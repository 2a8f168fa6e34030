#include "model/digest.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <vector>

#include "model/crew.h"

namespace streamserve {
namespace {

// Large odd numbers with about as many ones as zeros: xxHash's primes.
constexpr uint64_t kFirst = 0x9E3779B185EBCA87;
constexpr uint64_t kSecond = 0xC2B2AE3D27D4EB4F;
constexpr uint64_t kThird = 0x165667B19E3779F9;

constexpr size_t kLanes = 4;
// Small enough to share evenly, large enough that taking the next one costs nothing.
constexpr size_t kChunkBytes = 1 << 20;

uint64_t load(const uint8_t* at) {
  uint64_t value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

uint64_t mix(uint64_t state, uint64_t value) { return std::rotl(state + value * kSecond, 31) * kFirst; }

// Every bit of the state reaches every bit of the result.
uint64_t scatter(uint64_t state) {
  state = (state ^ state >> 33) * kSecond;
  state = (state ^ state >> 29) * kThird;
  return state ^ state >> 32;
}

}  // namespace

uint64_t checksum(std::span<const uint8_t> bytes) {
  uint64_t lanes[kLanes] = {kFirst, kSecond, kThird, kFirst ^ kSecond};
  const uint8_t* at = bytes.data();
  size_t left = bytes.size();
  for (; left >= kLanes * 8; at += kLanes * 8, left -= kLanes * 8) {
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] = mix(lanes[lane], load(at + lane * 8));
  }
  uint64_t state = bytes.size();
  for (const uint64_t lane : lanes) state = mix(state, lane);
  for (; left > 0; ++at, --left) state = mix(state, *at);
  return scatter(state);
}

uint64_t parallel_checksum(std::span<const uint8_t> bytes, uint32_t threads) {
  const size_t chunks = (bytes.size() + kChunkBytes - 1) / kChunkBytes;
  std::vector<uint64_t> sums(chunks);
  std::atomic<size_t> next{0};
  with_crew(std::min<size_t>(threads, chunks), [&] {
    for (size_t i; (i = next.fetch_add(1)) < chunks;) {
      const size_t begin = i * kChunkBytes;
      sums[i] = checksum(bytes.subspan(begin, std::min(kChunkBytes, bytes.size() - begin)));
    }
  });
  return checksum({reinterpret_cast<const uint8_t*>(sums.data()), sums.size() * sizeof(uint64_t)});
}

void Digest::add(std::span<const uint8_t> bytes) {
  const uint64_t sum = checksum(bytes);
  low_ = scatter(mix(low_, sum));
  high_ = scatter(mix(high_, std::rotl(sum, 32) ^ bytes.size()));
}

void Digest::add(std::string_view text) {
  add(std::span(reinterpret_cast<const uint8_t*>(text.data()), text.size()));
}

void Digest::add(uint64_t number) {
  add(std::span(reinterpret_cast<const uint8_t*>(&number), sizeof number));
}

DigestBytes Digest::finish() const {
  DigestBytes bytes;
  std::memcpy(bytes.data(), &low_, 8);
  std::memcpy(bytes.data() + 8, &high_, 8);
  return bytes;
}

std::string hexadecimal(const DigestBytes& digest) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : digest) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

}  // namespace streamserve
