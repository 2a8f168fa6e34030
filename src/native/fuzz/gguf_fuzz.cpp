// Feeds the GGUF reader with damaged headers. With libFuzzer (STREAMSERVE_LIBFUZZER) it guides the search;
// else a mutator of its own damages a small whole file for the seconds given as argument.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

#include "error.h"
#include "fuzz/damage.h"
#include "gguf/gguf.h"
#include "model/config.h"

namespace streamserve {
namespace {

// Reads `bytes` as a file and looks at all that the header says. Any failure but an EngineError ends the
// process.
void read_header(const uint8_t* bytes, size_t count) {
  const int memory = ::memfd_create("gguf", MFD_CLOEXEC);
  if (memory < 0 || ::write(memory, bytes, count) != static_cast<ssize_t>(count)) std::abort();
  try {
    const ModelSource source = read_gguf(File("/proc/self/fd/" + std::to_string(memory)));
    for (const auto& [key, value] : source.metadata()) {
      if (const auto* strings = std::get_if<StringArray>(&value)) {
        for (size_t i = 0; i < strings->size(); ++i) static_cast<void>((*strings)[i].size());
      }
      if (source.find(key) != &value) std::abort();
    }
    for (const TensorInfo& tensor : source.tensors()) {
      if (tensor.bytes && tensor.offset + *tensor.bytes > source.files().front().size()) std::abort();
    }
    read_config(source);
  } catch (const EngineError&) {
  }
  ::close(memory);
}

}  // namespace
}  // namespace streamserve

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t count) {
  streamserve::read_header(bytes, count);
  return 0;
}

#ifndef STREAMSERVE_LIBFUZZER
namespace streamserve {
namespace {

class Writer {
 public:
  template <typename T>
  void number(T value) {
    const auto* raw = reinterpret_cast<const uint8_t*>(&value);
    bytes.insert(bytes.end(), raw, raw + sizeof value);
  }
  void text(const std::string& value) {
    number<uint64_t>(value.size());
    bytes.insert(bytes.end(), value.begin(), value.end());
  }
  void unsigned_entry(const std::string& key, uint32_t value) {
    text(key);
    number<uint32_t>(4);
    number(value);
  }
  std::vector<uint8_t> bytes;
};

// A whole header of a Llama model with one tensor.
std::vector<uint8_t> whole_file() {
  Writer writer;
  writer.number<uint32_t>(0x46554747);
  writer.number<uint32_t>(3);
  writer.number<uint64_t>(1);
  writer.number<uint64_t>(8);
  writer.text("general.architecture");
  writer.number<uint32_t>(8);
  writer.text("llama");
  for (const char* key : {"block_count", "embedding_length", "feed_forward_length", "context_length"}) {
    writer.unsigned_entry(std::string("llama.") + key, 64);
  }
  writer.unsigned_entry("llama.attention.head_count", 2);
  writer.text("llama.attention.layer_norm_rms_epsilon");
  writer.number<uint32_t>(6);
  writer.number(1e-5F);
  writer.text("tokenizer.ggml.tokens");
  writer.number<uint32_t>(9);
  writer.number<uint32_t>(8);
  writer.number<uint64_t>(3);
  for (const char* token : {"a", "", "word"}) writer.text(token);
  writer.text("token_embd.weight");
  writer.number<uint32_t>(2);
  writer.number<uint64_t>(64);
  writer.number<uint64_t>(4);
  writer.number<uint32_t>(8);
  writer.number<uint64_t>(0);
  writer.bytes.resize((writer.bytes.size() + 31) / 32 * 32 + 4 * 68);
  return writer.bytes;
}

}  // namespace
}  // namespace streamserve

int main(int count, char** arguments) {
  const long seconds = count > 1 ? std::atol(arguments[1]) : 10;
  const std::vector<uint8_t> whole = streamserve::whole_file();
  std::mt19937_64 random(1);
  long runs = 0;
  for (const time_t end = std::time(nullptr) + seconds; std::time(nullptr) < end; ++runs) {
    std::vector<uint8_t> bytes = whole;
    if (runs > 0) streamserve::damage(bytes, random);
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  std::printf("fuzz: %ld damaged headers read in %ld s\n", runs, seconds);
  return 0;
}
#endif
