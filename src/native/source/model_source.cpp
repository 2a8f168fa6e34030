#include "source/model_source.h"

#include <cstring>

#include "error.h"
#include "source/tensor_view.h"

namespace streamserve {

bool ModelSource::add_metadata(std::string key, MetadataValue value, MetadataType type) {
  if (!metadata_index_.emplace(key, metadata_.size()).second) return false;
  metadata_.emplace_back(std::move(key), std::move(value));
  types_.push_back(type);
  return true;
}

bool ModelSource::add_tensor(TensorInfo tensor) {
  if (!tensor_index_.emplace(tensor.name, tensors_.size()).second) return false;
  tensors_.push_back(std::move(tensor));
  return true;
}

uint32_t ModelSource::add_file(File file) {
  files_.push_back(std::move(file));
  return static_cast<uint32_t>(files_.size() - 1);
}

const MetadataValue* ModelSource::find(std::string_view key) const {
  const auto found = metadata_index_.find(std::string(key));
  return found == metadata_index_.end() ? nullptr : &metadata_[found->second].second;
}

const TensorInfo* ModelSource::tensor(std::string_view name) const {
  const auto found = tensor_index_.find(std::string(name));
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

std::optional<uint64_t> ModelSource::unsigned_value(std::string_view key) const {
  const MetadataValue* value = find(key);
  if (!value) return std::nullopt;
  if (const auto* number = std::get_if<uint64_t>(value)) return *number;
  if (const auto* number = std::get_if<int64_t>(value); number && *number >= 0) {
    return static_cast<uint64_t>(*number);
  }
  wrong_kind(key, "whole number");
}

std::optional<double> ModelSource::float_value(std::string_view key) const {
  const MetadataValue* value = find(key);
  if (!value) return std::nullopt;
  if (const auto* number = std::get_if<double>(value)) return *number;
  if (const auto* number = std::get_if<uint64_t>(value)) return static_cast<double>(*number);
  wrong_kind(key, "number");
}

std::optional<std::string> ModelSource::string_value(std::string_view key) const {
  const MetadataValue* value = find(key);
  if (!value) return std::nullopt;
  if (const auto* text = std::get_if<std::string>(value)) return *text;
  wrong_kind(key, "string");
}

bool ModelSource::add_computed(std::string name, std::vector<float> values) {
  TensorInfo tensor;
  tensor.name = std::move(name);
  tensor.dimensions = 1;
  tensor.shape[0] = values.size();
  tensor.bytes = values.size() * sizeof(float);
  tensor.file = kComputed;
  tensor.offset = computed_.size();
  computed_.push_back(std::move(values));
  return add_tensor(std::move(tensor));
}

bool ModelSource::add_stacked(std::string name, std::vector<TensorInfo> pieces) {
  TensorInfo tensor = pieces.front();
  tensor.name = std::move(name);
  tensor.dimensions = 3;
  tensor.shape[2] = pieces.size();
  tensor.bytes = *tensor.bytes * pieces.size();
  tensor.file = kStacked;
  tensor.offset = stacks_.size();
  stacks_.push_back(std::move(pieces));
  return add_tensor(std::move(tensor));
}

std::span<const TensorInfo> ModelSource::pieces(const TensorInfo& tensor) const {
  return tensor.file == kStacked ? std::span<const TensorInfo>(stacks_[tensor.offset])
                                 : std::span<const TensorInfo>();
}

void ModelSource::read(const TensorInfo& tensor, std::span<uint8_t> out) const {
  if (tensor.file == kStacked) {
    for (const TensorInfo& piece : pieces(tensor)) {
      read(piece, out.first(*piece.bytes));
      out = out.subspan(*piece.bytes);
    }
    return;
  }
  if (tensor.file == kComputed) {
    std::memcpy(out.data(), computed_[tensor.offset].data(), out.size());
    return;
  }
  const File& file = files_[tensor.file];
  if (tensor.view == TensorView::kAsStored) {
    file.read(tensor.offset, out);
    return;
  }
  std::vector<uint8_t> stored(stored_bytes(tensor));
  file.read(tensor.offset, stored);
  if (tensor.view == TensorView::kInterleavedHeads) {
    interleave_heads(stored, tensor, out);
  } else {
    add_one(stored, tensor.stored_format, out);
  }
}

void ModelSource::wrong_kind(std::string_view key, const char* wanted) const {
  throw EngineError(ErrorCode::kModelFileInvalid, "The model file " + path_ + " gives " + std::string(key) +
                                                      " a value that is not a " + wanted + ".");
}

}  // namespace streamserve
