// Where a model comes from: its metadata and tensors under GGUF's names, whatever files they lie in. GGUF
// files and safetensors directories are both read into this; all that follows (configuration, packing,
// quantising) knows no other form.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "source/file.h"

namespace streamserve {

// GGUF's type numbers of metadata values.
enum class MetadataType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// Numbers or booleans, as they lie in the file.
struct NumberArray {
  MetadataType type;
  uint64_t count;
  std::vector<uint8_t> bytes;
};

// Strings end to end; `ends[i]` is where string i ends. Compact, so that a hostile count costs no more memory
// than the file is long.
struct StringArray {
  std::string text;
  std::vector<uint64_t> ends;

  size_t size() const { return ends.size(); }
  std::string_view operator[](size_t i) const {
    const uint64_t begin = i == 0 ? 0 : ends[i - 1];
    return std::string_view(text).substr(begin, ends[i] - begin);
  }
};

using MetadataValue = std::variant<bool, uint64_t, int64_t, double, std::string, NumberArray, StringArray>;

// How a tensor differs from what lies in the file.
enum class TensorView : uint8_t {
  kAsStored,
  // Rows of each head are stored as two halves to be rotated against each other; they are given interleaved,
  // as GGUF's Llama files have them.
  kInterleavedHeads,
  // Stored as the difference from one; given as F32.
  kPlusOne,
};

// `TensorInfo::file` of tensors that lie in no file: they were computed from the configuration.
inline constexpr uint32_t kComputed = ~uint32_t{0};
// Of those that are several tensors of the files, one behind the other.
inline constexpr uint32_t kStacked = kComputed - 1;

struct TensorInfo {
  std::string name;
  // GGUF's number; need not be one that the engine knows.
  uint32_t format = 0;
  uint32_t dimensions = 0;
  // Innermost first; 1 beyond `dimensions`.
  std::array<uint64_t, 4> shape{1, 1, 1, 1};
  // Which of the source's files it lies in, and where, from the start of that file.
  uint32_t file = 0;
  uint64_t offset = 0;
  TensorView view = TensorView::kAsStored;
  // For kInterleavedHeads.
  uint32_t heads = 0;
  // For kPlusOne: the format in the file.
  uint32_t stored_format = 0;
  // Bytes it takes; nothing for formats that the engine does not know.
  std::optional<uint64_t> bytes;
};

// Name of a tensor format, e.g. "Q6_K"; "type 77" when GGUF has no such number.
std::string format_name(uint32_t format);

class ModelSource {
 public:
  // Of a GGUF file; 0 for other forms.
  uint32_t gguf_version = 0;

  // `path` names the model in errors.
  explicit ModelSource(std::string path) : path_(std::move(path)) {}

  // Building. False when the name is taken. `type`: as which the value lies, or would lie, in a GGUF file.
  bool add_metadata(std::string key, MetadataValue value, MetadataType type);
  bool add_tensor(TensorInfo tensor);
  // The number to name it by in `TensorInfo::file`.
  uint32_t add_file(File file);
  // A vector of F32 that lies in no file.
  bool add_computed(std::string name, std::vector<float> values);
  // Matrices of one shape and format, as stored, in one tensor of three dimensions. Its bytes must be known.
  bool add_stacked(std::string name, std::vector<TensorInfo> pieces);

  const std::string& path() const { return path_; }
  const std::vector<std::pair<std::string, MetadataValue>>& metadata() const { return metadata_; }
  // Of each entry of metadata().
  const std::vector<MetadataType>& metadata_types() const { return types_; }
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  const std::vector<File>& files() const { return files_; }

  const MetadataValue* find(std::string_view key) const;
  const TensorInfo* tensor(std::string_view name) const;
  // What a tensor is put together from; nothing for one that is not.
  std::span<const TensorInfo> pieces(const TensorInfo& tensor) const;
  // Values of the expected kind; nothing when absent; `model_file_invalid` when of another kind.
  std::optional<uint64_t> unsigned_value(std::string_view key) const;
  std::optional<double> float_value(std::string_view key) const;
  std::optional<std::string> string_value(std::string_view key) const;

  // Fills `out`, as long as the tensor, with its rows. From any thread. Throws `model_file_truncated`, and
  // std::bad_alloc for the copy that a view may need.
  void read(const TensorInfo& tensor, std::span<uint8_t> out) const;

 private:
  [[noreturn]] void wrong_kind(std::string_view key, const char* wanted) const;

  std::string path_;
  std::vector<File> files_;
  std::vector<std::vector<float>> computed_;
  std::vector<std::vector<TensorInfo>> stacks_;
  std::vector<std::pair<std::string, MetadataValue>> metadata_;
  std::vector<MetadataType> types_;
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string, size_t> metadata_index_;
  std::unordered_map<std::string, size_t> tensor_index_;
};

}  // namespace streamserve
