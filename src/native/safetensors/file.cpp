#include "safetensors/file.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <optional>
#include <string_view>

#include "error.h"
#include "json/json.h"

namespace streamserve {
namespace {

// Some 120 bytes a tensor: the largest published models' headers stay below 10 MB.
constexpr uint64_t kMostHeaderBytes = 64 << 20;
constexpr size_t kMostTensors = 1 << 17;
constexpr size_t kMostDimensions = 8;
constexpr uint64_t kLengthBytes = 8;

const std::map<std::string_view, uint64_t>& element_bits() {
  static const std::map<std::string_view, uint64_t> bits{
      {"F64", 64}, {"I64", 64},    {"U64", 64},    {"F32", 32},    {"I32", 32}, {"U32", 32},
      {"F16", 16}, {"BF16", 16},   {"I16", 16},    {"U16", 16},    {"I8", 8},   {"U8", 8},
      {"BOOL", 8}, {"F8_E4M3", 8}, {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"C64", 64}, {"F4", 4},
  };
  return bits;
}

class Header {
 public:
  explicit Header(const File& file) : file_(file) {}

  std::vector<StoredTensor> read() {
    if (file_.size() < kLengthBytes) truncated("is only " + std::to_string(file_.size()) + " bytes long");
    uint64_t length = 0;
    std::vector<uint8_t> raw(kLengthBytes);
    file_.read(0, raw);
    std::memcpy(&length, raw.data(), kLengthBytes);
    if (length > kMostHeaderBytes) {
      invalid("announces a header of " + std::to_string(length) + " bytes; at most " +
              std::to_string(kMostHeaderBytes) + " are read");
    }
    if (length > file_.size() - kLengthBytes) {
      truncated("announces a header of " + std::to_string(length) + " bytes, more than are left in it");
    }
    raw.resize(length);
    file_.read(kLengthBytes, raw);
    const Json json = Json::parse({reinterpret_cast<const char*>(raw.data()), raw.size()},
                                  "The header of the model file " + file_.path());
    if (!json.object()) invalid("has a header that is no object");
    for (const auto& [name, entry] : *json.object()) {
      if (name != "__metadata__") add(name, entry, kLengthBytes + length);
    }
    check_coverage(kLengthBytes + length);
    return std::move(tensors_);
  }

 private:
  void add(const std::string& name, const Json& entry, uint64_t data_begin) {
    if (tensors_.size() >= kMostTensors) {
      invalid("has more than " + std::to_string(kMostTensors) + " tensors");
    }
    const Json* dtype = entry.member("dtype");
    const Json* shape = entry.member("shape");
    const Json* offsets = entry.member("data_offsets");
    if (!dtype || !dtype->text() || !shape || !shape->array() || !offsets || !offsets->array() ||
        offsets->array()->size() != 2) {
      invalid("lacks dtype, shape or data_offsets of tensor " + name);
    }
    StoredTensor tensor{name, *dtype->text(), {}, 0, 0};
    if (shape->array()->size() > kMostDimensions) {
      invalid("gives tensor " + name + " " + std::to_string(shape->array()->size()) +
              " dimensions; at most " + std::to_string(kMostDimensions) + " are read");
    }
    const auto bits = element_bits().find(tensor.dtype);
    if (bits == element_bits().end()) invalid("gives tensor " + name + " the unknown dtype " + tensor.dtype);
    uint64_t total_bits = bits->second;
    for (const Json& extent : *shape->array()) {
      const std::optional<uint64_t> count = extent.whole();
      if (!count || (*count > 0 && total_bits > std::numeric_limits<int64_t>::max() / *count)) {
        invalid("gives tensor " + name + " a shape that is no list of whole numbers or overflows");
      }
      tensor.shape.push_back(*count);
      total_bits *= *count;
    }
    const std::optional<uint64_t> begin = (*offsets->array())[0].whole();
    const std::optional<uint64_t> end = (*offsets->array())[1].whole();
    if (!begin || !end || *end < *begin || total_bits % 8 != 0 || *end - *begin != total_bits / 8) {
      invalid("places tensor " + name + " in another number of bytes than its shape takes");
    }
    if (*end > file_.size() - data_begin) truncated("ends before tensor " + name + " does");
    tensor.offset = data_begin + *begin;
    tensor.bytes = *end - *begin;
    tensors_.push_back(std::move(tensor));
  }

  void check_coverage(uint64_t data_begin) const {
    std::vector<const StoredTensor*> order;
    for (const StoredTensor& tensor : tensors_) order.push_back(&tensor);
    std::sort(order.begin(), order.end(), [](const StoredTensor* a, const StoredTensor* b) {
      return a->offset != b->offset ? a->offset < b->offset : a->bytes < b->bytes;
    });
    uint64_t at = data_begin;
    for (const StoredTensor* tensor : order) {
      if (tensor->offset != at) invalid("leaves a gap or an overlap before tensor " + tensor->name);
      at += tensor->bytes;
    }
    if (at != file_.size()) invalid("has bytes after its last tensor");
  }

  [[noreturn]] void invalid(const std::string& what) const {
    throw EngineError(ErrorCode::kModelFileInvalid, "The model file " + file_.path() + " " + what + ".");
  }
  [[noreturn]] void truncated(const std::string& what) const {
    throw EngineError(ErrorCode::kModelFileTruncated, "The model file " + file_.path() + " " + what +
                                                          ": it is cut off or damaged; download it again.");
  }

  const File& file_;
  std::vector<StoredTensor> tensors_;
};

}  // namespace

std::vector<StoredTensor> read_safetensors_header(const File& file) { return Header(file).read(); }

}  // namespace streamserve
