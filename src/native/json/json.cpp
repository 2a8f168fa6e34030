#include "json/json.h"

#include <charconv>
#include <cmath>

#include "error.h"

namespace streamserve {
namespace {

// Headers and configurations are some four levels deep.
constexpr uint32_t kMostDepth = 32;
// A model of 20,000 tensors has some 200,000; this bounds memory at some 100 MB.
constexpr uint32_t kMostValues = 1 << 21;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

int hexadecimal_digit(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

void append_utf8(std::string& text, uint32_t point) {
  const auto tail = [&](uint32_t shift) { text += static_cast<char>(0x80 | (point >> shift & 0x3F)); };
  if (point < 0x80) {
    text += static_cast<char>(point);
  } else if (point < 0x800) {
    text += static_cast<char>(0xC0 | point >> 6);
    tail(0);
  } else if (point < 0x10000) {
    text += static_cast<char>(0xE0 | point >> 12);
    tail(6);
    tail(0);
  } else {
    text += static_cast<char>(0xF0 | point >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
}

}  // namespace

class JsonParser {
 public:
  JsonParser(std::string_view text, const std::string& what) : text_(text), what_(what) {}

  Json document() {
    Json value = this->value(0);
    skip_space();
    if (at_ < text_.size()) fail("has something after its end");
    return value;
  }

 private:
  [[noreturn]] void fail(const char* why) const {
    throw EngineError(ErrorCode::kModelFileInvalid,
                      what_ + " " + why + " (byte " + std::to_string(at_) + "): it is damaged or no JSON.");
  }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  void skip_space() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r')) {
      ++at_;
    }
  }

  bool take(char c) {
    skip_space();
    if (peek() != c || at_ >= text_.size()) return false;
    ++at_;
    return true;
  }

  void take_word(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) fail("has an unknown word");
    at_ += word.size();
  }

  Json value(uint32_t depth) {
    if (depth > kMostDepth) fail("is nested too deeply");
    if (++values_ > kMostValues) fail("has too many values");
    skip_space();
    Json json;
    switch (peek()) {
      case '{':
        json.value_ = object(depth);
        break;
      case '[':
        json.value_ = array(depth);
        break;
      case '"':
        json.value_ = string();
        break;
      case 't':
        take_word("true");
        json.value_ = true;
        break;
      case 'f':
        take_word("false");
        json.value_ = false;
        break;
      case 'n':
        take_word("null");
        break;
      default:
        json.value_ = number();
    }
    return json;
  }

  Json::Object object(uint32_t depth) {
    Json::Object members;
    ++at_;
    if (take('}')) return members;
    do {
      skip_space();
      if (peek() != '"') fail("lacks a member's name");
      std::string name = string();
      if (!take(':')) fail("lacks a colon");
      members.emplace_back(std::move(name), value(depth + 1));
    } while (take(','));
    if (!take('}')) fail("lacks a closing brace");
    return members;
  }

  Json::Array array(uint32_t depth) {
    Json::Array elements;
    ++at_;
    if (take(']')) return elements;
    do {
      elements.push_back(value(depth + 1));
    } while (take(','));
    if (!take(']')) fail("lacks a closing bracket");
    return elements;
  }

  std::string string() {
    std::string text;
    for (++at_; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (c == '"') {
        ++at_;
        return text;
      }
      if (static_cast<unsigned char>(c) < 0x20) fail("has a control character in a string");
      if (c == '\\') {
        escape(text);
      } else {
        text += c;
      }
    }
    fail("ends within a string");
  }

  // Leaves `at_` on the last character of the escape.
  void escape(std::string& text) {
    ++at_;
    switch (peek()) {
      case '"':
      case '\\':
      case '/':
        text += peek();
        return;
      case 'b':
        text += '\b';
        return;
      case 'f':
        text += '\f';
        return;
      case 'n':
        text += '\n';
        return;
      case 'r':
        text += '\r';
        return;
      case 't':
        text += '\t';
        return;
      case 'u':
        break;
      default:
        fail("has an unknown escape");
    }
    uint32_t point = four_digits();
    if (point >= 0xD800 && point < 0xDC00 && text_.substr(at_ + 1, 2) == "\\u") {
      at_ += 2;
      const uint32_t low = four_digits();
      if (low < 0xDC00 || low > 0xDFFF) fail("has half of a surrogate pair");
      point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
    } else if (point >= 0xD800 && point <= 0xDFFF) {
      fail("has half of a surrogate pair");
    }
    append_utf8(text, point);
  }

  // From `at_` on the "u" to the last digit.
  uint32_t four_digits() {
    uint32_t value = 0;
    for (int i = 0; i < 4; ++i) {
      ++at_;
      const int digit = hexadecimal_digit(peek());
      if (digit < 0) fail("has a broken escape");
      value = value * 16 + static_cast<uint32_t>(digit);
    }
    return value;
  }

  double number() {
    const size_t begin = at_;
    if (peek() == '-') ++at_;
    if (!is_digit(peek())) fail("has something that is no value");
    if (peek() == '0') {
      ++at_;
    } else {
      while (is_digit(peek())) ++at_;
    }
    if (peek() == '.') {
      ++at_;
      if (!is_digit(peek())) fail("has a broken number");
      while (is_digit(peek())) ++at_;
    }
    if (peek() == 'e' || peek() == 'E') {
      ++at_;
      if (peek() == '+' || peek() == '-') ++at_;
      if (!is_digit(peek())) fail("has a broken number");
      while (is_digit(peek())) ++at_;
    }
    double value = 0;
    const auto read = std::from_chars(text_.data() + begin, text_.data() + at_, value);
    if (read.ec != std::errc() || !std::isfinite(value)) fail("has a number that is out of range");
    return value;
  }

  const std::string_view text_;
  const std::string& what_;
  size_t at_ = 0;
  uint32_t values_ = 0;
};

Json Json::parse(std::string_view text, const std::string& what) { return JsonParser(text, what).document(); }

std::optional<uint64_t> Json::whole() const {
  constexpr double kMost = 9007199254740992;  // 2^53: beyond, doubles skip numbers
  const double* value = number();
  if (!value || *value < 0 || *value > kMost || std::trunc(*value) != *value) return std::nullopt;
  return static_cast<uint64_t>(*value);
}

const Json* Json::member(std::string_view name) const {
  if (const Object* members = object()) {
    for (const auto& [key, value] : *members) {
      if (key == name) return value.is_null() ? nullptr : &value;
    }
  }
  return nullptr;
}

}  // namespace streamserve
