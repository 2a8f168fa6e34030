#include "model/packed_file.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <type_traits>

namespace streamserve {
namespace {

constexpr char kMagic[8] = {'S', 'S', 'P', 'A', 'C', 'K', 'E', 'D'};
// Raise it whenever this file's form changes; the packed bytes' own form has its name, the layout.
constexpr uint32_t kVersion = 1;
// A page, so that what follows is aligned for the kernels and for mapping.
constexpr uint64_t kHeaderBytes = 4096;

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t header_bytes;
  uint8_t model[16];
  uint8_t plan[16];
  char layout[32];
  uint64_t packed_offset;
  uint64_t packed_bytes;
  uint64_t embedding_offset;
  uint64_t embedding_bytes;
  uint64_t file_bytes;
  // Of everything after the header.
  uint64_t contents_checksum;
  // Of everything before it.
  uint64_t header_checksum;
  // Zeros.
  uint8_t rest[3960];
};
static_assert(std::is_trivially_copyable_v<Header> && sizeof(Header) == kHeaderBytes);

uint64_t whole_pages(uint64_t bytes) { return (bytes + kHeaderBytes - 1) / kHeaderBytes * kHeaderBytes; }

uint64_t own_checksum(const Header& header) {
  return checksum({reinterpret_cast<const uint8_t*>(&header), offsetof(Header, header_checksum)});
}

// All but the checksums.
Header expected(const PackedContents& contents) {
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.header_bytes = kHeaderBytes;
  std::memcpy(header.model, contents.model.data(), contents.model.size());
  std::memcpy(header.plan, contents.plan.data(), contents.plan.size());
  std::memcpy(header.layout, contents.layout.data(),
              std::min(contents.layout.size(), sizeof header.layout - 1));
  header.packed_offset = packed_begin();
  header.packed_bytes = contents.packed_bytes;
  header.embedding_offset = embedding_begin(contents);
  header.embedding_bytes = contents.embedding_bytes;
  header.file_bytes = packed_file_bytes(contents);
  return header;
}

}  // namespace

uint64_t packed_begin() { return kHeaderBytes; }

uint64_t embedding_begin(const PackedContents& contents) {
  return packed_begin() + whole_pages(contents.packed_bytes);
}

uint64_t packed_file_bytes(const PackedContents& contents) {
  return embedding_begin(contents) + whole_pages(contents.embedding_bytes);
}

void seal_packed_file(std::span<uint8_t> bytes, const PackedContents& contents, uint32_t threads) {
  Header header = expected(contents);
  header.contents_checksum = parallel_checksum(bytes.subspan(kHeaderBytes), threads);
  header.header_checksum = own_checksum(header);
  std::memcpy(bytes.data(), &header, sizeof header);
}

std::optional<std::string> packed_file_fault(std::span<const uint8_t> bytes, const PackedContents& contents,
                                             uint32_t threads) {
  Header header;
  if (bytes.size() < kHeaderBytes) return "it is too short";
  std::memcpy(&header, bytes.data(), sizeof header);
  Header wanted = expected(contents);
  if (std::memcmp(header.magic, wanted.magic, sizeof header.magic) != 0)
    return "it is no file of packed weights";
  if (header.version != wanted.version) return "it is of version " + std::to_string(header.version);
  if (header.header_checksum != own_checksum(header)) return "its header is damaged";
  // All that is left to differ is named by the digests, so one comparison will do.
  wanted.contents_checksum = header.contents_checksum;
  wanted.header_checksum = header.header_checksum;
  if (std::memcmp(&header, &wanted, sizeof header) != 0) return "it holds other weights or another layout";
  if (bytes.size() != header.file_bytes) return "it is cut off";
  if (parallel_checksum(bytes.subspan(kHeaderBytes), threads) != header.contents_checksum) {
    return "its contents are damaged";
  }
  return std::nullopt;
}

}  // namespace streamserve
