#include "gguf/values.h"

#include "error.h"

namespace streamserve {
namespace {

// Bounds what one metadata string, or all of an array, may allocate; chat templates run to some 100 KB.
constexpr uint64_t kMostStringBytes = 64 << 20;
// Bounds what one array may cost whoever takes it over; vocabularies and their merges run to some 500,000.
constexpr uint64_t kMostArrayElements = 1 << 22;

[[noreturn]] void invalid(const std::string& what) {
  throw EngineError(ErrorCode::kModelFileInvalid, "The model file's metadata is damaged: " + what + ".");
}

MetadataValue read_array(FileCursor& cursor, const std::string& key) {
  const uint32_t type = cursor.number<uint32_t>();
  const uint64_t count = cursor.number<uint64_t>();
  if (count > kMostArrayElements) {
    invalid(key + " is announced to have " + std::to_string(count) + " elements; at most " +
            std::to_string(kMostArrayElements) + " are read");
  }
  if (static_cast<MetadataType>(type) == MetadataType::kString) {
    cursor.require(count, sizeof(uint64_t), "strings");
    StringArray array;
    array.ends.reserve(count);
    for (uint64_t i = 0; i < count; ++i) {
      array.text += read_string(cursor, kMostStringBytes - array.text.size(), key.c_str());
      array.ends.push_back(array.text.size());
    }
    return array;
  }
  const uint64_t bytes = element_bytes(type);
  if (bytes == 0) invalid(key + " is an array of type " + std::to_string(type) + ", which is not read");
  cursor.require(count, bytes, "array elements");
  NumberArray array{static_cast<MetadataType>(type), count, std::vector<uint8_t>(count * bytes)};
  cursor.read(array.bytes.data(), array.bytes.size());
  return array;
}

}  // namespace

std::string read_string(FileCursor& cursor, uint64_t most, const char* what) {
  const uint64_t bytes = cursor.number<uint64_t>();
  if (bytes > most) {
    invalid(std::string(what) + " is announced to be " + std::to_string(bytes) + " bytes long; at most " +
            std::to_string(most) + " are read");
  }
  cursor.require(bytes, 1, "bytes of text");
  std::string text(bytes, '\0');
  cursor.read(text.data(), text.size());
  return text;
}

MetadataValue read_value(FileCursor& cursor, uint32_t type, const std::string& key) {
  switch (static_cast<MetadataType>(type)) {
    case MetadataType::kUint8:
      return uint64_t{cursor.number<uint8_t>()};
    case MetadataType::kInt8:
      return int64_t{cursor.number<int8_t>()};
    case MetadataType::kUint16:
      return uint64_t{cursor.number<uint16_t>()};
    case MetadataType::kInt16:
      return int64_t{cursor.number<int16_t>()};
    case MetadataType::kUint32:
      return uint64_t{cursor.number<uint32_t>()};
    case MetadataType::kInt32:
      return int64_t{cursor.number<int32_t>()};
    case MetadataType::kFloat32:
      return double{cursor.number<float>()};
    case MetadataType::kBool:
      return cursor.number<uint8_t>() != 0;
    case MetadataType::kString:
      return read_string(cursor, kMostStringBytes, key.c_str());
    case MetadataType::kArray:
      return read_array(cursor, key);
    case MetadataType::kUint64:
      return cursor.number<uint64_t>();
    case MetadataType::kInt64:
      return cursor.number<int64_t>();
    case MetadataType::kFloat64:
      return cursor.number<double>();
  }
  invalid(key + " is of type " + std::to_string(type) + ", which GGUF does not define");
}

uint64_t element_bytes(uint32_t type) {
  switch (static_cast<MetadataType>(type)) {
    case MetadataType::kUint8:
    case MetadataType::kInt8:
    case MetadataType::kBool:
      return 1;
    case MetadataType::kUint16:
    case MetadataType::kInt16:
      return 2;
    case MetadataType::kUint32:
    case MetadataType::kInt32:
    case MetadataType::kFloat32:
      return 4;
    case MetadataType::kUint64:
    case MetadataType::kInt64:
    case MetadataType::kFloat64:
      return 8;
    case MetadataType::kString:
    case MetadataType::kArray:
      return 0;
  }
  return 0;
}

}  // namespace streamserve
