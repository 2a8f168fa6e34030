#include "model/weight_memory.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <optional>

#include "model/crew.h"
#include "model/source_digest.h"

namespace streamserve {
namespace {

// A piece of a copy: far larger than a huge page, far smaller than a thread's share.
constexpr size_t kCopyBytes = 8 << 20;

// All that decides which bytes are packed where.
DigestBytes digest_of(const ModelSource& source, const PackPlan& plan) {
  Digest digest;
  const auto add = [&](const TensorInfo& tensor) {
    digest.add(tensor.name);
    digest.add(uint64_t{tensor.file});
    digest.add(tensor.offset);
    digest.add(uint64_t{tensor.format});
    digest.add(*tensor.bytes);
    digest.add(static_cast<uint64_t>(tensor.view));
    digest.add(uint64_t{tensor.heads});
    for (const TensorInfo& piece : source.pieces(tensor)) {
      digest.add(uint64_t{piece.file});
      digest.add(piece.offset);
    }
  };
  for (const PackJob& job : plan.jobs) {
    add(*job.tensor);
    for (const PackPart& part : job.parts) {
      digest.add(part.first_row);
      digest.add(static_cast<uint64_t>(part.target->packing));
      digest.add(uint64_t{part.target->rows});
      digest.add(uint64_t{part.target->cols});
      digest.add(uint64_t{part.packed_offset});
    }
  }
  add(*plan.embedding);
  return digest.finish();
}

void copy(std::span<const uint8_t> from, uint8_t* to, uint32_t threads) {
  std::atomic<size_t> next{0};
  with_crew(threads, [&] {
    for (size_t at; (at = next.fetch_add(kCopyBytes)) < from.size();) {
      std::memcpy(to + at, from.data() + at, std::min(kCopyBytes, from.size() - at));
    }
  });
}

}  // namespace

WeightMemory::WeightMemory(const ModelSource& source, const Kernels& kernels, const PackPlan& plan,
                           const WeightMemoryOptions& options) {
  PackedContents contents{
      {}, digest_of(source, plan), kernels.layout, plan.packed_bytes, *plan.embedding->bytes};
  std::optional<PackedCache> cache;
  if (!options.cache.directory.empty()) {
    contents.model = source_digest(source);
    cache.emplace(options.cache, contents, options.threads);
    if (std::optional<FileMapping> found = cache->find()) {
      origin_ = WeightOrigin::kCache;
      use(std::move(*found), contents, options);
      return;
    }
  }
  // Laid out as the file, so that one write makes it.
  memory_ = LargeMemory(packed_file_bytes(contents), "the weights");
  point_at(memory_.bytes(), contents);
  source.read(*plan.embedding, {memory_.bytes() + embedding_begin(contents), contents.embedding_bytes});
  run_pack_jobs(source, kernels, plan.jobs, memory_.bytes() + packed_begin(), options.threads);
  if (!cache) return;
  const std::span<uint8_t> bytes{memory_.bytes(), memory_.size()};
  seal_packed_file(bytes, contents, options.threads);
  if (std::optional<FileMapping> stored = cache->store(bytes)) {
    origin_ = WeightOrigin::kStored;
    // The file's pages take the place of the anonymous ones, so that further processes share them.
    if (!options.copy) use(std::move(*stored), contents, options);
  }
  notice_ = cache->notice();
}

void WeightMemory::use(FileMapping mapping, const PackedContents& contents,
                       const WeightMemoryOptions& options) {
  const std::span<const uint8_t> bytes = mapping.bytes();
  if (options.copy) {
    memory_ = LargeMemory(bytes.size(), "the weights");
    copy(bytes, memory_.bytes(), options.threads);
    point_at(memory_.bytes(), contents);
    return;
  }
  point_at(bytes.data(), contents);
  mapping_ = std::move(mapping);
  memory_ = LargeMemory();
}

void WeightMemory::point_at(const uint8_t* file, const PackedContents& contents) {
  packed_ = {file + packed_begin(), contents.packed_bytes};
  embedding_ = {file + embedding_begin(contents), contents.embedding_bytes};
}

}  // namespace streamserve
