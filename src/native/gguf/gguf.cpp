#include "gguf/gguf.h"

#include <algorithm>
#include <limits>

#include "error.h"
#include "gguf/formats.h"
#include "gguf/values.h"

namespace streamserve {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
// Metadata keys and tensors of the largest published models number in the low thousands.
constexpr uint64_t kMostEntries = 1 << 17;
// Headers of published models run to some 20 MB, nearly all of it vocabulary.
constexpr uint64_t kMostMetadataBytes = 256 << 20;
// GGUF's own limit is 64 bytes for tensor names and 65535 for keys.
constexpr uint64_t kMostNameBytes = 65535;
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kMostAlignment = 1 << 20;

class Reader {
 public:
  explicit Reader(const File& file) : file_(file), source_(file.path()) {}

  ModelSource read();

 private:
  void read_metadata(FileCursor& cursor, uint64_t count);
  void read_tensors(FileCursor& cursor, uint64_t count);
  void place_tensors(uint64_t header_end, uint64_t file_bytes);
  [[noreturn]] void invalid(const std::string& what) const;

  const File& file_;
  ModelSource source_;
  std::vector<TensorInfo> tensors_;
};

ModelSource Reader::read() {
  FileCursor cursor(file_);
  if (file_.size() < 4) {
    throw EngineError(ErrorCode::kModelFileTruncated, "The model file " + file_.path() + " is only " +
                                                          std::to_string(file_.size()) + " bytes long.");
  }
  if (cursor.number<uint32_t>() != kMagic) invalid("does not begin with \"GGUF\"");
  source_.gguf_version = cursor.number<uint32_t>();
  if (source_.gguf_version != 2 && source_.gguf_version != 3) {
    invalid("is of GGUF version " + std::to_string(source_.gguf_version) +
            "; versions 2 and 3 (little endian) are read");
  }
  const uint64_t tensor_count = cursor.number<uint64_t>();
  const uint64_t metadata_count = cursor.number<uint64_t>();
  if (tensor_count > kMostEntries || metadata_count > kMostEntries) {
    invalid("announces " + std::to_string(tensor_count) + " tensors and " + std::to_string(metadata_count) +
            " metadata keys; at most " + std::to_string(kMostEntries) + " of each are read");
  }
  read_metadata(cursor, metadata_count);
  read_tensors(cursor, tensor_count);
  place_tensors(cursor.position(), file_.size());
  return std::move(source_);
}

void Reader::read_metadata(FileCursor& cursor, uint64_t count) {
  // The shortest entry: an empty key, a type and one byte.
  cursor.require(count, 13, "metadata keys");
  for (uint64_t i = 0; i < count; ++i) {
    std::string key = read_string(cursor, kMostNameBytes, "a metadata key");
    const uint32_t type = cursor.number<uint32_t>();
    MetadataValue value = read_value(cursor, type, key);
    if (!source_.add_metadata(key, std::move(value), static_cast<MetadataType>(type)))
      invalid("has the metadata key " + key + " twice");
    if (cursor.position() > kMostMetadataBytes) {
      invalid("has more than " + std::to_string(kMostMetadataBytes >> 20) + " MiB of metadata");
    }
  }
}

void Reader::read_tensors(FileCursor& cursor, uint64_t count) {
  // The shortest entry: an empty name, one dimension, a format and an offset.
  cursor.require(count, 32, "tensors");
  tensors_.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    TensorInfo tensor;
    tensor.name = read_string(cursor, kMostNameBytes, "a tensor name");
    tensor.dimensions = cursor.number<uint32_t>();
    if (tensor.dimensions == 0 || tensor.dimensions > tensor.shape.size()) {
      invalid("gives tensor " + tensor.name + " " + std::to_string(tensor.dimensions) +
              " dimensions; 1 to 4 are read");
    }
    for (uint32_t d = 0; d < tensor.dimensions; ++d) tensor.shape[d] = cursor.number<uint64_t>();
    tensor.format = cursor.number<uint32_t>();
    tensor.offset = cursor.number<uint64_t>();
    tensors_.push_back(std::move(tensor));
  }
}

void Reader::place_tensors(uint64_t header_end, uint64_t file_bytes) {
  const uint64_t alignment = source_.unsigned_value("general.alignment").value_or(kDefaultAlignment);
  if (alignment == 0 || alignment > kMostAlignment || (alignment & (alignment - 1)) != 0) {
    invalid("asks for an alignment of " + std::to_string(alignment) + " bytes; a power of two is needed");
  }
  const uint64_t start = (header_end + alignment - 1) / alignment * alignment;
  uint64_t end = start;
  bool sizes_known = true;
  for (TensorInfo& tensor : tensors_) {
    uint64_t elements = 1;
    for (const uint64_t extent : tensor.shape) {
      if (extent == 0 || elements > std::numeric_limits<int64_t>::max() / extent) {
        invalid("gives tensor " + tensor.name + " a shape that is empty or overflows");
      }
      elements *= extent;
    }
    if (tensor.offset % alignment != 0) invalid("places tensor " + tensor.name + " off its alignment");
    uint64_t bytes = 0;
    if (const FormatInfo* format = find_format(tensor.format); format && format->block_bytes > 0) {
      if (tensor.shape[0] % format->block_elements != 0) {
        invalid("gives tensor " + tensor.name + " rows of " + std::to_string(tensor.shape[0]) +
                " elements, not " + "a multiple of the " + std::to_string(format->block_elements) +
                " in a block of " + format->name);
      }
      const uint64_t blocks = elements / format->block_elements;
      if (blocks > uint64_t{std::numeric_limits<int64_t>::max()} / format->block_bytes) {
        invalid("gives tensor " + tensor.name + " a size that overflows");
      }
      bytes = blocks * format->block_bytes;
      tensor.bytes = bytes;
    } else {
      sizes_known = false;
    }
    if (start > file_bytes || tensor.offset > file_bytes - start ||
        bytes > file_bytes - start - tensor.offset) {
      throw EngineError(ErrorCode::kModelFileTruncated,
                        "The model file " + file_.path() + " ends before tensor " + tensor.name +
                            " does: it is cut off or damaged; download it again.");
    }
    tensor.offset += start;
    end = std::max(end, tensor.offset + bytes);
    if (!source_.add_tensor(tensor)) invalid("has the tensor " + tensor.name + " twice");
  }
  // Writers pad the last tensor too. More than that is no part of any model: two files in one, or a wrong
  // header.
  if (!tensors_.empty() && sizes_known && file_bytes > end && file_bytes - end >= alignment) {
    invalid("goes on for " + std::to_string(file_bytes - end) +
            " bytes after its last tensor: it is damaged or not what it was; download it again");
  }
}

void Reader::invalid(const std::string& what) const {
  throw EngineError(ErrorCode::kModelFileInvalid, "The model file " + file_.path() + " " + what + ".");
}

}  // namespace

ModelSource read_gguf(File file) {
  ModelSource source = Reader(file).read();
  source.add_file(std::move(file));
  return source;
}

}  // namespace streamserve
