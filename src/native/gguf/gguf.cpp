#include "gguf/gguf.h"

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

}  // namespace

Gguf::Gguf(const File& file) : path_(file.path()) {
  FileCursor cursor(file);
  if (file.size() < 4) {
    throw EngineError(ErrorCode::kModelFileTruncated,
                      "The model file " + path_ + " is only " + std::to_string(file.size()) + " bytes long.");
  }
  if (cursor.number<uint32_t>() != kMagic) invalid("does not begin with \"GGUF\"");
  version_ = cursor.number<uint32_t>();
  if (version_ != 2 && version_ != 3) {
    invalid("is of GGUF version " + std::to_string(version_) + "; versions 2 and 3 (little endian) are read");
  }
  const uint64_t tensor_count = cursor.number<uint64_t>();
  const uint64_t metadata_count = cursor.number<uint64_t>();
  if (tensor_count > kMostEntries || metadata_count > kMostEntries) {
    invalid("announces " + std::to_string(tensor_count) + " tensors and " + std::to_string(metadata_count) +
            " metadata keys; at most " + std::to_string(kMostEntries) + " of each are read");
  }
  read_metadata(cursor, metadata_count);
  read_tensors(cursor, tensor_count);
  place_tensors(cursor.position(), file.size());
}

void Gguf::read_metadata(FileCursor& cursor, uint64_t count) {
  // The shortest entry: an empty key, a type and one byte.
  cursor.require(count, 13, "metadata keys");
  metadata_.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    std::string key = read_string(cursor, kMostNameBytes, "a metadata key");
    const uint32_t type = cursor.number<uint32_t>();
    MetadataValue value = read_value(cursor, type, key);
    if (!metadata_index_.emplace(key, metadata_.size()).second) {
      invalid("has the metadata key " + key + " twice");
    }
    metadata_.emplace_back(std::move(key), std::move(value));
    if (cursor.position() > kMostMetadataBytes) {
      invalid("has more than " + std::to_string(kMostMetadataBytes >> 20) + " MiB of metadata");
    }
  }
}

void Gguf::read_tensors(FileCursor& cursor, uint64_t count) {
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
    if (!tensor_index_.emplace(tensor.name, tensors_.size()).second) {
      invalid("has the tensor " + tensor.name + " twice");
    }
    tensors_.push_back(std::move(tensor));
  }
}

void Gguf::place_tensors(uint64_t header_end, uint64_t file_bytes) {
  const uint64_t alignment = unsigned_value("general.alignment").value_or(kDefaultAlignment);
  if (alignment == 0 || alignment > kMostAlignment || (alignment & (alignment - 1)) != 0) {
    invalid("asks for an alignment of " + std::to_string(alignment) + " bytes; a power of two is needed");
  }
  const uint64_t start = (header_end + alignment - 1) / alignment * alignment;
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
      if (blocks > std::numeric_limits<int64_t>::max() / format->block_bytes) {
        invalid("gives tensor " + tensor.name + " a size that overflows");
      }
      bytes = blocks * format->block_bytes;
      tensor.bytes = bytes;
    }
    if (start > file_bytes || tensor.offset > file_bytes - start ||
        bytes > file_bytes - start - tensor.offset) {
      throw EngineError(ErrorCode::kModelFileTruncated,
                        "The model file " + path_ + " ends before tensor " + tensor.name +
                            " does: it is cut off or damaged; download it again.");
    }
    tensor.offset += start;
  }
}

const MetadataValue* Gguf::find(std::string_view key) const {
  const auto found = metadata_index_.find(std::string(key));
  return found == metadata_index_.end() ? nullptr : &metadata_[found->second].second;
}

const TensorInfo* Gguf::tensor(std::string_view name) const {
  const auto found = tensor_index_.find(std::string(name));
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

std::optional<uint64_t> Gguf::unsigned_value(std::string_view key) const {
  const MetadataValue* value = find(key);
  if (!value) return std::nullopt;
  if (const auto* number = std::get_if<uint64_t>(value)) return *number;
  if (const auto* number = std::get_if<int64_t>(value); number && *number >= 0) {
    return static_cast<uint64_t>(*number);
  }
  invalid("gives " + std::string(key) + " a value that is not a whole number");
}

std::optional<double> Gguf::float_value(std::string_view key) const {
  const MetadataValue* value = find(key);
  if (!value) return std::nullopt;
  if (const auto* number = std::get_if<double>(value)) return *number;
  if (const auto* number = std::get_if<uint64_t>(value)) return static_cast<double>(*number);
  invalid("gives " + std::string(key) + " a value that is not a number");
}

std::optional<std::string> Gguf::string_value(std::string_view key) const {
  const MetadataValue* value = find(key);
  if (!value) return std::nullopt;
  if (const auto* text = std::get_if<std::string>(value)) return *text;
  invalid("gives " + std::string(key) + " a value that is not a string");
}

void Gguf::invalid(const std::string& what) const {
  throw EngineError(ErrorCode::kModelFileInvalid, "The model file " + path_ + " " + what + ".");
}

}  // namespace streamserve
