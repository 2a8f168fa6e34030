#include "model/source_digest.h"

#include <algorithm>
#include <vector>

namespace streamserve {
namespace {

constexpr uint64_t kEndBytes = 64 << 10;
constexpr uint64_t kSamples = 64;
constexpr uint64_t kSampleBytes = 4096;

}  // namespace

DigestBytes source_digest(const ModelSource& source) {
  Digest digest;
  std::vector<uint8_t> part;
  for (const File& file : source.files()) {
    const auto add = [&](uint64_t offset, uint64_t bytes) {
      part.resize(std::min(bytes, file.size() - offset));
      file.read(offset, part);
      digest.add(part);
    };
    digest.add(file.size());
    digest.add(static_cast<uint64_t>(file.modified_ns()));
    if (file.size() <= 2 * kEndBytes + kSamples * kSampleBytes) {
      add(0, file.size());
      continue;
    }
    add(0, kEndBytes);
    add(file.size() - kEndBytes, kEndBytes);
    const uint64_t between = file.size() - 2 * kEndBytes;
    for (uint64_t i = 0; i < kSamples; ++i) add(kEndBytes + between / kSamples * i, kSampleBytes);
  }
  return digest.finish();
}

}  // namespace streamserve
