// Feeds the safetensors and config.json readers with damaged text. With libFuzzer (STREAMSERVE_LIBFUZZER) it
// guides the search; else a mutator of its own damages a small whole model for the seconds given as argument.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <vector>

#include "error.h"
#include "fuzz/damage.h"
#include "json/json.h"
#include "model/config.h"
#include "safetensors/config.h"
#include "safetensors/file.h"

namespace streamserve {
namespace {

// Reads `bytes` as a file. Any failure but an EngineError ends the process.
void read_header(const uint8_t* bytes, size_t count) {
  const int memory = ::memfd_create("safetensors", MFD_CLOEXEC);
  if (memory < 0 || ::write(memory, bytes, count) != static_cast<ssize_t>(count)) std::abort();
  try {
    const File file("/proc/self/fd/" + std::to_string(memory));
    for (const StoredTensor& tensor : read_safetensors_header(file)) {
      if (tensor.offset > file.size() || tensor.bytes > file.size() - tensor.offset) std::abort();
    }
  } catch (const EngineError&) {
  }
  ::close(memory);
}

void read_configuration(const uint8_t* bytes, size_t count) {
  try {
    const Json json = Json::parse({reinterpret_cast<const char*>(bytes), count}, "config.json");
    ModelSource source("model");
    add_hub_config(json, "config.json", source);
    read_config(source);
  } catch (const EngineError&) {
  }
}

}  // namespace
}  // namespace streamserve

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t count) {
  streamserve::read_header(bytes, count);
  streamserve::read_configuration(bytes, count);
  return 0;
}

#ifndef STREAMSERVE_LIBFUZZER
namespace streamserve {
namespace {

std::vector<uint8_t> whole_file() {
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"model.norm.weight":{"dtype":"F32","shape":[8],"data_offsets":[0,32]},)"
      R"("model.embed_tokens.weight":{"dtype":"BF16","shape":[4,8],"data_offsets":[32,96]}})";
  std::vector<uint8_t> bytes(8);
  const uint64_t length = header.size();
  std::memcpy(bytes.data(), &length, sizeof length);
  bytes.insert(bytes.end(), header.begin(), header.end());
  bytes.resize(bytes.size() + 96);
  return bytes;
}

std::vector<uint8_t> whole_configuration() {
  const std::string text =
      R"({"model_type":"llama","hidden_act":"silu","num_hidden_layers":2,"hidden_size":64,"head_dim":null,)"
      R"("intermediate_size":128,"num_attention_heads":4,"num_key_value_heads":2,"rms_norm_eps":1e-05,)"
      R"("max_position_embeddings":512,"rope_theta":10000.0,"rope_scaling":{"rope_type":"llama3","factor":8.0,)"
      R"("low_freq_factor":1,"high_freq_factor":4,"original_max_position_embeddings":128},"x":"\u00e4\ud83d\ude00"})";
  return {text.begin(), text.end()};
}

}  // namespace
}  // namespace streamserve

int main(int count, char** arguments) {
  const long seconds = count > 1 ? std::atol(arguments[1]) : 10;
  const std::vector<uint8_t> wholes[] = {streamserve::whole_file(), streamserve::whole_configuration()};
  std::mt19937_64 random(1);
  long runs = 0;
  for (const time_t end = std::time(nullptr) + seconds; std::time(nullptr) < end; ++runs) {
    std::vector<uint8_t> bytes = wholes[runs % 2];
    if (runs > 1) streamserve::damage(bytes, random);
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  std::printf("fuzz: %ld damaged safetensors headers and configurations read in %ld s\n", runs, seconds);
  return 0;
}
#endif
