#include "tiny_engine.h"

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "unit_test.h"

namespace streamserve::test {

std::string tiny_model(const std::string& name) { return "../../test/fixtures/families/" + name + ".gguf"; }

StretchedModel::StretchedModel(const std::string& name, const std::string& architecture, uint32_t context) {
  std::ifstream in(tiny_model(name), std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  const std::string key = architecture + ".context_length";
  const size_t at = bytes.find(key);
  CHECK(at != std::string::npos);
  // Behind a key: the type of its value, here an uint32, and the value.
  std::memcpy(bytes.data() + at + key.size() + sizeof(uint32_t), &context, sizeof context);
  std::string path = (std::filesystem::temp_directory_path() / "streamserve-XXXXXX").string();
  const int made = ::mkstemp(path.data());
  CHECK(made >= 0);
  path_ = path;
  std::FILE* out = ::fdopen(made, "wb");
  const bool whole = std::fwrite(bytes.data(), 1, bytes.size(), out) == bytes.size();
  CHECK(std::fclose(out) == 0 && whole);
}

StretchedModel::~StretchedModel() {
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
}

EngineOptions tiny_engine(const std::string& path, uint32_t kv_tokens) {
  return {.path = path,
          .instruction_set = "portable",
          .kv_tokens = kv_tokens,
          .block_tokens = kKvBlockTokens,
          .threads = 2,
          .context_tokens = 0,
          .exact = false,
          .cache = {},
          .copy_weights = false};
}

std::vector<uint32_t> some_ids(uint32_t count) {
  std::vector<uint32_t> ids;
  for (uint32_t i = 0; i < count; ++i) ids.push_back((i * 37 + (i >> 5)) % 90);
  return ids;
}

}  // namespace streamserve::test
