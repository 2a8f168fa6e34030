#include "binding/text_calls.h"

#include <memory>

#include "binding/environment.h"
#include "error.h"
#include "text/byte_pairs.h"

namespace streamserve::binding {
namespace {

constexpr uint32_t kAny = ~uint32_t{0};

StringList strings(const Call& call, size_t index, const char* name) {
  const std::span<const uint8_t> bytes = call.bytes(index, name);
  const StringList list{{reinterpret_cast<const char*>(bytes.data()), bytes.size()},
                        call.uint32s(index + 1, name)};
  if (list.sound()) return list;
  throw EngineError(ErrorCode::kArgumentInvalid, std::string(name) + " does not end where it should.");
}

// openBytePairs(tokens: Uint8Array, ends: Uint32Array, merges, ends, apart, ends) -> number, valid on this
// thread
napi_value open_byte_pairs(Call& call) {
  auto pairs = std::make_unique<BytePairs>(strings(call, 0, "tokens"), strings(call, 2, "merges"),
                                           strings(call, 4, "apart"));
  return make_number(call.env(), Environment::of(call.env()).add(std::move(pairs)));
}

// encodeWords(pairs, text: Uint8Array, ends: Uint32Array, count, whole, ids: Uint32Array) -> number of ids
napi_value encode_words(Call& call) {
  BytePairs& pairs = Environment::of(call.env()).byte_pairs(call.integer(0, "pairs", 0, kAny));
  const std::span<const uint8_t> bytes = call.bytes(1, "text");
  const std::span<const uint32_t> ends = call.uint32s(2, "ends");
  const uint32_t count = call.integer(3, "count", 0, static_cast<uint32_t>(ends.size()));
  const StringList words{{reinterpret_cast<const char*>(bytes.data()), bytes.size()}, ends.first(count)};
  const bool whole = call.flag(4, "whole");
  const std::span<uint32_t> ids = call.uint32s(5, "ids");
  if (!words.sound() || (count > 0 && ids.size() < ends[count - 1])) {
    throw EngineError(ErrorCode::kArgumentInvalid,
                      "The words are not within the text, or the ids need more room.");
  }
  size_t written = 0;
  for (uint32_t word = 0; word < count; ++word) {
    written += pairs.encode(words[word], whole, ids.subspan(written));
  }
  return make_number(call.env(), static_cast<double>(written));
}

}  // namespace

void export_text_calls(napi_env env, napi_value exports) {
  export_function(env, exports, "openBytePairs", entry<open_byte_pairs>);
  export_function(env, exports, "encodeWords", entry<encode_words>);
}

}  // namespace streamserve::binding
