// The header of a GGUF file (versions 2 and 3, little endian): metadata and the list of tensors.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "gguf/file.h"

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

struct TensorInfo {
  std::string name;
  // GGUF's number; need not be one that the engine knows.
  uint32_t format = 0;
  uint32_t dimensions = 0;
  // Innermost first; 1 beyond `dimensions`.
  std::array<uint64_t, 4> shape{1, 1, 1, 1};
  // From the start of the file.
  uint64_t offset = 0;
  // Bytes it takes; nothing for formats that the engine does not know.
  std::optional<uint64_t> bytes;
};

// Name of a tensor format, e.g. "Q6_K"; "type 77" when GGUF has no such number.
std::string format_name(uint32_t format);

class Gguf {
 public:
  // Reads and checks the header. Throws `model_file_truncated` or `model_file_invalid`.
  explicit Gguf(const File& file);

  uint32_t version() const { return version_; }
  const std::vector<std::pair<std::string, MetadataValue>>& metadata() const { return metadata_; }
  const std::vector<TensorInfo>& tensors() const { return tensors_; }

  const MetadataValue* find(std::string_view key) const;
  const TensorInfo* tensor(std::string_view name) const;
  // Values of the expected kind; nothing when absent; `model_file_invalid` when of another kind.
  std::optional<uint64_t> unsigned_value(std::string_view key) const;
  std::optional<double> float_value(std::string_view key) const;
  std::optional<std::string> string_value(std::string_view key) const;

 private:
  void read_metadata(FileCursor& cursor, uint64_t count);
  void read_tensors(FileCursor& cursor, uint64_t count);
  void place_tensors(uint64_t header_end, uint64_t file_bytes);
  [[noreturn]] void invalid(const std::string& what) const;

  std::string path_;
  uint32_t version_ = 0;
  std::vector<std::pair<std::string, MetadataValue>> metadata_;
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string, size_t> metadata_index_;
  std::unordered_map<std::string, size_t> tensor_index_;
};

}  // namespace streamserve
