// JSON (RFC 8259) from files that nobody vouches for: size, depth and number of values are bounded, and what
// is not JSON is refused with the place.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace streamserve {

class Json {
 public:
  using Array = std::vector<Json>;
  // In the order of the text; of members of one name the first counts.
  using Object = std::vector<std::pair<std::string, Json>>;

  // Throws `model_file_invalid`; `what` names the text in it.
  static Json parse(std::string_view text, const std::string& what);

  bool is_null() const { return std::holds_alternative<std::nullptr_t>(value_); }
  // Nothing when it is of another kind.
  const bool* boolean() const { return std::get_if<bool>(&value_); }
  const double* number() const { return std::get_if<double>(&value_); }
  const std::string* text() const { return std::get_if<std::string>(&value_); }
  const Array* array() const { return std::get_if<Array>(&value_); }
  const Object* object() const { return std::get_if<Object>(&value_); }
  // A whole number from 0 to 2^53.
  std::optional<uint64_t> whole() const;
  // The member of an object; nullptr when there is none, when it is null, or when this is no object.
  const Json* member(std::string_view name) const;

 private:
  friend class JsonParser;
  std::variant<std::nullptr_t, bool, double, std::string, Array, Object> value_ = nullptr;
};

}  // namespace streamserve
